//! The commands over the real admin router, with a controller that answers from a script.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::render::Look;
use super::watch::{Screen, Watch};
use crate::cli::failure::Failure;
use crate::cli::tests::{Outcome, headgate, nobody, serve};
use crate::error::Error;
use crate::registry::manager::ManagerHandle;
use crate::rollout::testing::{NOON_MS, rollout, transition};
use crate::rollout::view::{
    Explanation, History, RolloutList, RolloutView, RouteHistory, RouteRow, StartRequest, WeightsView,
};
use crate::rollout::{Command, RolloutHandle};
use crate::telemetry::recorder;
use crate::testing;

const SPLIT: WeightsView = WeightsView { stable: 8000, candidate: 1000, control: 1000, shadow: 0 };

/// What the controller has, and what it was asked to change.
struct World {
    rollouts: Vec<RolloutView>,
    refusal: Option<Error>,
    changes: Vec<String>,
}

/// An admin listener over these rollouts. With a refusal, every change is refused.
fn admin(rollouts: Vec<RolloutView>, refusal: Option<Error>) -> (String, Arc<Mutex<World>>) {
    let (manager, _) = ManagerHandle::channel();
    let (handle, mut commands, _) = RolloutHandle::channel();
    let world = Arc::new(Mutex::new(World { rollouts, refusal, changes: vec![] }));
    let shared = world.clone();
    std::thread::spawn(move || {
        while let Some(command) = commands.blocking_recv() {
            shared.lock().unwrap().answer(command);
        }
    });
    let plane = testing::data_plane(&[]);
    let address = serve(crate::admin::router(
        plane,
        manager,
        handle,
        recorder::install().unwrap(),
        (std::sync::Arc::new(crate::audit::AuditLog::open(None).unwrap()), crate::admin::LogAdmin::off()),
    ));
    (format!("http://{address}"), world)
}

impl World {
    fn answer(&mut self, command: Command) {
        match command {
            Command::Start { request, reply, .. } => reply.send(self.start(&request)).unwrap(),
            Command::Act { rollout, action, reason, reply, .. } => {
                self.changes.push(format!("{} {rollout} {reason}", action.name()));
                let outcome = self.refusal.clone().map_or_else(|| self.find(&rollout), Err);
                reply.send(outcome).unwrap();
            }
            Command::List { reply } => reply.send(Ok(RolloutList { rollouts: self.rollouts.clone() })).unwrap(),
            Command::Show { rollout, reply } => reply.send(self.find(&rollout)).unwrap(),
            Command::History { rollout, reply } => {
                let history = |view: RolloutView| History { id: view.id, transitions: vec![transition(1)] };
                reply.send(self.find(&rollout).map(history)).unwrap();
            }
            Command::RouteHistory { route, at_ms, reply } => {
                let known = self.rollouts.iter().any(|view| view.route == route);
                let unknown = Error::UnknownModel { model: route.clone(), nearest: None };
                let history = RouteHistory { route, served: served(at_ms.unwrap_or(NOON_MS)) };
                reply.send(if known { Ok(history) } else { Err(unknown) }).unwrap();
            }
            Command::Explain { route, key, reply } => reply.send(Ok(explanation(route, key))).unwrap(),
        }
    }

    fn start(&mut self, request: &StartRequest) -> Result<RolloutView, Error> {
        self.changes.push(format!("start {} {:?} {:?} {}", request.route, request.to, request.spec, request.reason));
        self.refusal.clone().map_or_else(|| self.find(&request.route), Err)
    }

    fn find(&self, name: &str) -> Result<RolloutView, Error> {
        let found = self.rollouts.iter().find(|view| view.id == name || view.route == name);
        found.cloned().ok_or_else(|| Error::UnknownRollout { rollout: name.to_owned(), nearest: None })
    }
}

/// Nothing before noon, all to version 1 for a minute, then the split.
fn served(at_ms: u64) -> Vec<RouteRow> {
    let row = |at_ms, candidate, weights, rollout| RouteRow { at_ms, stable: Some(1), candidate, weights, rollout };
    match at_ms {
        ..NOON_MS => vec![],
        at if at < NOON_MS + 60_000 => {
            vec![row(NOON_MS, None, WeightsView { stable: 10_000, ..WeightsView::default() }, None)]
        }
        _ => vec![row(NOON_MS + 60_000, Some(2), SPLIT, Some("digits-3".into()))],
    }
}

fn explanation(route: String, key: String) -> Explanation {
    Explanation {
        route,
        key,
        rollout: Some("digits-3".into()),
        bucket: Some(57),
        weights: SPLIT,
        arm: "candidate".into(),
        version: Some(2),
        because: "bucket 57 is below 1,000".into(),
    }
}

fn named(id: &str, route: &str, state: &str, ended: bool) -> RolloutView {
    RolloutView { id: id.into(), route: route.into(), state: state.into(), ended, ..rollout() }
}

fn run(admin: &str, args: &[&str]) -> Outcome {
    headgate(&[&["rollout"], args, &["--admin", admin]].concat())
}

#[test]
fn start_shows_the_whole_spec_as_it_could_be_given_again() {
    let (admin, world) = admin(vec![rollout()], None);
    let (status, text, failure) = run(&admin, &["start", "digits", "--to", "2", "--reason", "week 9"]);
    assert_eq!((status, failure.as_str()), (0, ""));
    assert_eq!(world.lock().unwrap().changes, ["start digits Some(2) None week 9"]);
    assert!(text.starts_with("# digits-3 baking 1 -> 2; step 2/3"), "{text}");
    assert!(text.ends_with("route: digits\ncandidate: 2\nsteps:\n  - {weight_bp: 100}\nchecks: []\n"), "{text}");
    assert_eq!(crate::yaml::parse(text.as_bytes()).unwrap(), rollout().spec);

    let file = std::env::temp_dir().join(format!("headgate-{}-{}.yaml", std::process::id(), fastrand::u64(..)));
    std::fs::write(&file, "candidate: {version: 2}\n").unwrap();
    let spec = file.to_str().unwrap();
    let (status, json, failure) = run(&admin, &["start", "digits", "--spec", spec, "--json"]);
    assert_eq!((status, failure.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<RolloutView>(&json).unwrap(), rollout());
    let expected = format!("start digits None {:?} ", Some(json!({"candidate": {"version": 2}})));
    assert_eq!(world.lock().unwrap().changes[1], expected);
    std::fs::write(&file, "steps: [\n").unwrap();
    let (status, _, failure) = run(&admin, &["start", "digits", "--spec", spec]);
    assert_eq!((status, failure.contains("not valid YAML (line 1)")), (2, true), "{failure}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_candidate_that_is_rejected_fails_the_start_with_the_reason() {
    let mut view = named("digits-4", "digits", "rejected", true);
    view.last_transition.as_mut().unwrap().cause = "output 'probabilities' is not finite".into();
    let (admin, _) = admin(vec![view], None);
    for json in [false, true] {
        let args = ["start", "digits", "--to", "2", "--json"];
        let (status, out, failure) = run(&admin, &args[..if json { 5 } else { 4 }]);
        assert_eq!(status, 1);
        assert_eq!(failure, "version 2 of digits was rejected: output 'probabilities' is not finite");
        assert!(out.contains("rejected"), "{out}");
    }
}

#[test]
fn each_action_reaches_the_named_rollout_or_the_only_one() {
    let (admin, world) = admin(vec![rollout(), named("iris-1", "iris", "completed", true)], None);
    for action in ["pause", "resume", "approve", "promote", "abort"] {
        for (args, change) in [
            (vec![action], format!("{action} digits-3 ")),
            (vec![action, "iris"], format!("{action} iris ")),
            (vec![action, "digits-3", "--reason", "why not"], format!("{action} digits-3 why not")),
        ] {
            let (status, out, failure) = run(&admin, &args);
            assert_eq!((status, failure.as_str()), (0, ""), "{args:?}");
            assert_eq!(out.lines().count(), 1, "{out}");
            assert_eq!(world.lock().unwrap().changes.last(), Some(&change));
        }
    }
    let (_, json, _) = run(&admin, &["pause", "--json"]);
    assert_eq!(serde_json::from_str::<RolloutView>(&json).unwrap(), rollout());
}

#[test]
fn what_may_be_left_out_must_be_clear() {
    let several = vec![rollout(), named("iris-1", "iris", "paused", false)];
    let ended = vec![named("iris-1", "iris", "completed", true)];
    for (rollouts, text) in [
        (several, "several rollouts are under way, name one: digits-3 (baking), iris-1 (paused)"),
        (ended, "no rollout is under way, name one that has ended: iris-1 (completed)"),
        (vec![], "there is no rollout"),
    ] {
        let (admin, world) = admin(rollouts, None);
        for args in [vec!["abort"], vec!["status", "--watch"], vec!["history"], vec!["explain", "k"]] {
            assert_eq!(run(&admin, &args), (2, String::new(), text.to_owned()), "{args:?}");
        }
        assert!(world.lock().unwrap().changes.is_empty());
    }
}

#[test]
fn exit_statuses_tell_refused_not_found_and_unreachable_apart() {
    let conflict = Error::Conflict("digits-3 is baking: only a held or paused rollout can be resumed".into());
    let (busy, _) = admin(vec![rollout()], Some(conflict.clone()));
    for args in [vec!["resume"], vec!["start", "digits", "--to", "2"]] {
        assert_eq!(run(&busy, &args), (1, String::new(), conflict.to_string()));
    }
    let unknown = "there is no rollout 'digits-9'".to_owned();
    for args in [vec!["status", "digits-9"], vec!["status", "digits-9", "--watch"], vec!["history", "digits-9"]] {
        assert_eq!(run(&busy, &args), (3, String::new(), unknown.clone()), "{args:?}");
    }
    assert_eq!(run(&busy, &["history", "digits-9", "--at", "0"]).0, 3);
    assert_eq!(run(&busy, &["start", "digits", "--spec", "no-such-file"]).0, 3);
    let nobody = nobody();
    for args in [
        vec!["start", "digits", "--to", "2"],
        vec!["status"],
        vec!["abort"],
        vec!["history", "digits", "--at", "0"],
        vec!["explain", "k", "--route", "digits"],
    ] {
        assert_eq!(run(&nobody, &args).0, 4, "{args:?}");
    }
    for (args, text) in [
        (vec!["history", "--at", "noon"], "expected a time such as 2026-03-01T12:00:00Z"),
        (vec!["start", "digits"], "--to <VERSION>"),
        (vec!["stop"], "unrecognized subcommand 'stop'"),
    ] {
        let (status, _, failure) = run(&busy, &args);
        assert_eq!((status, failure.contains(text)), (2, true), "{failure}");
    }
}

#[test]
fn status_is_one_rollout_or_a_list() {
    let (one, _) = admin(vec![rollout()], None);
    for args in [vec!["status"], vec!["status", "digits"], vec!["status", "digits-3"]] {
        let (status, text, _) = run(&one, &args);
        assert_eq!((status, text.contains("CHECK errors: error against stable")), (0, true), "{text}");
    }
    let (_, json, _) = run(&one, &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["rollouts"][0]["id"], "digits-3");
    let (_, json, _) = run(&one, &["status", "digits", "--json"]);
    assert_eq!(serde_json::from_str::<RolloutView>(&json).unwrap(), rollout());
    let (several, _) = admin(vec![rollout(), named("iris-1", "iris", "paused", false)], None);
    let (status, table, _) = run(&several, &["status"]);
    assert_eq!(status, 0);
    assert_eq!(
        table,
        "ROLLOUT   FROM  TO  STATE   STEP  CANDIDATE  SINCE                 BY     WAITING FOR\n\
         digits-3  1     2   baking  2/3   10 %       2026-03-01T12:05:00Z  alice  5m more of baking\n\
         iris-1    1     2   paused  2/3   10 %       2026-03-01T12:05:00Z  alice  5m more of baking\n"
    );
}

#[test]
fn history_tells_transitions_and_who_served_when() {
    let (admin, _) = admin(vec![rollout()], None);
    let (status, table, _) = run(&admin, &["history"]);
    assert_eq!(status, 0);
    assert_eq!(
        table,
        "TIME                  FROM      TO      BY        WEIGHTS                                    CAUSE\n\
         2026-03-01T12:05:00Z  shifting  baking  headgate  stable 80 %, candidate 10 %, control 10 %  10 % are in force\n"
    );
    let split = "digits at 2026-03-01T13:00:00Z: stable version 1 80 %, candidate version 2 10 %, control version 1 10 %; \
                 since 2026-03-01T12:01:00Z by digits-3\n";
    let whole = "digits at 2026-03-01T12:00:30Z: stable version 1 100 %; since 2026-03-01T12:00:00Z\n";
    for (args, text) in [
        (["digits", "2026-03-01T13:00:00Z"], split),
        (["digits-3", "2026-03-01T15:00:00+02:00"], split),
        (["digits", "1772366430"], whole),
        (["digits", "1772366430000"], whole),
    ] {
        assert_eq!(run(&admin, &["history", args[0], "--at", args[1]]), (0, text.to_owned(), String::new()));
    }
    assert_eq!(run(&admin, &["history", "--at", "1772366430"]).1, whole);
    let unknown = "nothing is known of what served digits at 2026-03-01T11:59:59Z".to_owned();
    assert_eq!(run(&admin, &["history", "digits", "--at", "1772366399"]), (3, String::new(), unknown));
    let (_, json, _) = run(&admin, &["history", "digits", "--at", "1772366430", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["served"][0]["stable"], 1);
}

#[test]
fn explain_says_which_arm_a_key_meets_and_why() {
    let (admin, _) = admin(vec![rollout()], None);
    let expected = "key 'a b&c' on route digits meets candidate, version 2: bucket 57 is below 1,000\n\
                    bucket 57 of 10,000 in digits-3; stable 80 %, candidate 10 %, control 10 %\n";
    for args in [vec!["explain", "a b&c"], vec!["explain", "a b&c", "--route", "digits"]] {
        assert_eq!(run(&admin, &args), (0, expected.to_owned(), String::new()));
    }
    assert!(run(&admin, &["explain", "-7"]).1.starts_with("key '-7' on"));
    let (_, json, _) = run(&admin, &["explain", "k", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["bucket"], 57);
}

/// Watches what `reads` answer, one after the other.
fn watch(screen: Screen, reads: Vec<Result<RolloutView, Failure>>) -> (String, Option<String>, usize) {
    let reads = RefCell::new(reads.into_iter());
    let mut out = vec![];
    let read = || reads.borrow_mut().next().expect("a look after the end");
    let outcome = Watch { read: &read, screen, pause: |_: Duration| {} }.run(&mut out);
    (String::from_utf8(out).unwrap(), outcome.err().map(|failure| failure.to_string()), reads.borrow().len())
}

fn unreachable() -> Result<RolloutView, Failure> {
    Err(Failure::Unreachable { url: "http://x".into(), cause: "refused".into(), flag: "--admin" })
}

#[test]
fn a_watch_ends_with_its_rollout() {
    let end = |state: &str| named("digits-3", "digits", state, true);
    let reads = || vec![Ok(rollout()), Ok(rollout()), unreachable(), Ok(end("completed")), Ok(rollout())];
    let (text, failure, left) = watch(Screen::Pipe, reads());
    assert_eq!((failure, left), (None, 1));
    assert_eq!(text.lines().count(), 2, "one line for each change: {text}");
    assert!(!text.contains('\x1b'));
    let (text, _, _) = watch(Screen::Json, reads());
    let states: Vec<String> =
        text.lines().map(|line| serde_json::from_str::<RolloutView>(line).unwrap().state).collect();
    assert_eq!(states, ["baking", "completed"]);
    for state in ["rolled_back", "rejected", "aborted"] {
        let (_, failure, _) = watch(Screen::Pipe, vec![Ok(end(state))]);
        assert_eq!(failure, Some(format!("digits-3 ended as {state}: 10 % are in force")));
    }
}

#[test]
fn a_terminal_is_redrawn_from_its_corner() {
    let screen = Screen::Terminal(Look::PLAIN);
    let end = named("digits-3", "digits", "completed", true);
    let (text, failure, _) = watch(screen, vec![Ok(rollout()), unreachable(), Ok(end)]);
    assert_eq!(failure, None);
    assert_eq!(text.matches("\x1b[H").count(), 2);
    assert!(text.starts_with("\x1b[Hdigits-3: digits 1 -> 2 "), "{text:?}");
    assert!(text.contains("trying again: no answer from http://x: refused."), "{text:?}");
    assert!(text.ends_with("\x1b[K\n\x1b[J"), "{text:?}");
}

#[test]
fn a_watch_gives_a_server_half_a_minute_to_come_back() {
    let mut reads = vec![Ok(rollout())];
    reads.extend((0..40).map(|_| unreachable()));
    let (_, failure, left) = watch(Screen::Pipe, reads);
    assert!(failure.unwrap().starts_with("no answer from http://x"));
    assert_eq!(left, 9);
    let (_, failure, _) = watch(Screen::Pipe, vec![Ok(rollout()), Err(Failure::NotFound("gone".into()))]);
    assert_eq!(failure.unwrap(), "gone");
}
