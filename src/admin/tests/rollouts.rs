//! What the admin API makes of rollouts, with a controller that answers from a script.

use super::*;
use crate::rollout::testing::{NOON_MS, rollout, transition};
use crate::rollout::view::{Explanation, History, RolloutList, RouteHistory, RouteRow, WeightsView};

/// Answers the next command, and gives its form without its reply.
async fn answer(commands: &mut mpsc::Receiver<Asked>, refusal: Option<Error>) -> String {
    let command = commands.recv().await.unwrap();
    let form = format!("{command:?}").split(", reply").next().unwrap().split(" { reply").next().unwrap().to_owned();
    let one = refusal.clone().map_or_else(|| Ok(rollout()), Err);
    match command {
        Asked::Start { reply, .. } | Asked::Act { reply, .. } | Asked::Show { reply, .. } => reply.send(one).unwrap(),
        Asked::List { reply } => reply.send(one.map(|one| RolloutList { rollouts: vec![one] })).unwrap(),
        Asked::History { reply, .. } => {
            reply.send(one.map(|one| History { id: one.id, transitions: vec![transition(1)] })).unwrap();
        }
        Asked::RouteHistory { route, reply, .. } => reply.send(one.map(|_| route_history(route))).unwrap(),
        Asked::Explain { route, key, reply } => reply.send(one.map(|_| explanation(route, key))).unwrap(),
    }
    form
}

fn route_history(route: String) -> RouteHistory {
    let (weights, rollout) = (WeightsView::default(), Some("digits-3".into()));
    RouteHistory {
        route,
        served: vec![RouteRow { at_ms: NOON_MS, stable: Some(1), candidate: Some(2), weights, rollout }],
    }
}

fn explanation(route: String, key: String) -> Explanation {
    Explanation {
        route,
        key,
        rollout: Some("digits-3".into()),
        bucket: Some(57),
        weights: WeightsView::default(),
        arm: "candidate".into(),
        version: Some(2),
        because: "bucket 57 is below 1,000".into(),
    }
}

impl Server {
    /// The command that a call becomes, and its answer.
    async fn ask(&mut self, call: (&str, &str, &str), refusal: Option<Error>) -> (String, StatusCode, Value) {
        let mut commands = std::mem::replace(&mut self.rollouts, mpsc::channel(1).1);
        let (form, (status, body)) = tokio::join!(answer(&mut commands, refusal), self.call(call.0, call.1, call.2));
        self.rollouts = commands;
        (form, status, body)
    }
}

#[tokio::test]
async fn each_path_asks_the_controller_for_what_it_says() {
    let mut server = Server::start().await;
    let act = |action: &str, reason: &str| {
        format!("Act {{ rollout: \"digits-3\", action: {action}, actor: \"unknown\", reason: \"{reason}\"")
    };
    for (method, path, body, expected) in [
        ("GET", "/admin/v1/rollouts", "", "List".to_owned()),
        ("GET", "/admin/v1/rollouts/a%2Fb", "", "Show { rollout: \"a/b\"".to_owned()),
        ("GET", "/admin/v1/rollouts/digits-3/history", "", "History { rollout: \"digits-3\"".to_owned()),
        ("POST", "/admin/v1/rollouts/digits-3/pause", "", act("Pause", "")),
        ("POST", "/admin/v1/rollouts/digits-3/resume", "{}", act("Resume", "")),
        ("POST", "/admin/v1/rollouts/digits-3/approve", "{\"reason\": \"seen\"}", act("Approve", "seen")),
        ("POST", "/admin/v1/rollouts/digits-3/promote", "", act("Promote", "")),
        ("POST", "/admin/v1/rollouts/digits-3/abort", "", act("Abort", "")),
        (
            "GET",
            "/admin/v1/routes/digits/explain?key=a%20b",
            "",
            "Explain { route: \"digits\", key: \"a b\"".to_owned(),
        ),
        ("GET", "/admin/v1/routes/digits/history", "", "RouteHistory { route: \"digits\", at_ms: None".to_owned()),
        (
            "GET",
            "/admin/v1/routes/digits/history?at_ms=5",
            "",
            "RouteHistory { route: \"digits\", at_ms: Some(5)".to_owned(),
        ),
    ] {
        let (form, status, _) = server.ask((method, path, body), None).await;
        assert_eq!((form, status.as_u16()), (expected, 200), "{method} {path}");
    }
}

#[tokio::test]
async fn a_start_may_hold_a_large_spec_and_names_who_asks() {
    let mut server = Server::start().await;
    let notes = "x".repeat(MAX_BODY_BYTES * 2);
    let body = json!({"route": "digits", "to": 2, "spec": {"notes": notes}, "reason": "week 9"}).to_string();
    let mut request = server.request("POST", "/admin/v1/rollouts", &body);
    request.headers_mut().insert("headgate-actor", "alice".parse().unwrap());
    let mut commands = std::mem::replace(&mut server.rollouts, mpsc::channel(1).1);
    let (form, response) = tokio::join!(answer(&mut commands, None), server.send(request));
    assert_eq!(response.status(), 200);
    assert!(form.starts_with("Start { request: StartRequest { route: \"digits\", to: Some(2)"), "{form}");
    assert!(form.ends_with("reason: \"week 9\" }, actor: \"alice\""), "{form}");
    assert_eq!(serde_json::from_slice::<Value>(response.body()).unwrap()["id"], "digits-3");
}

#[tokio::test]
async fn a_controllers_refusal_has_the_status_of_its_kind() {
    let mut server = Server::start().await;
    for (error, expected) in [
        (Error::UnknownRollout { rollout: "digits-4".into(), nearest: Some("digits-3".into()) }, 404),
        (Error::UnknownModel { model: "digits".into(), nearest: None }, 404),
        (Error::Conflict("digits-3 has ended".into()), 409),
        (Error::invalid("steps[1].weight_bp: must rise"), 400),
        (Error::Unavailable("stopping".into()), 503),
    ] {
        let text = error.to_string();
        for call in [
            ("POST", "/admin/v1/rollouts", "{\"route\": \"digits\"}"),
            ("POST", "/admin/v1/rollouts/digits-4/abort", ""),
            ("GET", "/admin/v1/rollouts/digits-4", ""),
            ("GET", "/admin/v1/routes/digits/explain?key=1", ""),
        ] {
            let (_, status, body) = server.ask(call, Some(error.clone())).await;
            assert_eq!((status.as_u16(), body), (expected, json!({"error": text})), "{call:?}");
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_does_not_reach_the_controller() {
    let mut server = Server::start().await;
    let (start, abort) = ("/admin/v1/rollouts", "/admin/v1/rollouts/digits-3/abort");
    let large = |limit: usize| format!("{{\"reason\": \"\"{}}}", " ".repeat(limit));
    let (large_start, large_act) = (large(MAX_SPEC_BYTES), large(MAX_BODY_BYTES));
    for (method, path, body, status, text) in [
        ("POST", start, "", 400, "expected a body such as {\"route\": \"digits\", \"to\": 3}"),
        ("POST", start, "{}", 400, "route: expected the name of a model or route"),
        ("POST", start, "{\"ruote\": \"digits\"}", 400, "unknown field `ruote`, expected one of `route`"),
        ("POST", start, "{\"route\": \"digits\", \"to\": \"two\"}", 400, "expected u64"),
        ("POST", start, &large_start, 413, "the body exceeds the limit of 262144 bytes"),
        ("POST", abort, "{\"raeson\": \"\"}", 400, "unknown field `raeson`, expected `reason`"),
        ("POST", abort, &large_act, 413, "the body exceeds the limit of 16384 bytes"),
        ("POST", "/admin/v1/rollouts/digits-3/stop", "", 404, "expected one of pause, resume, approve, promote, abort"),
        ("GET", abort, "", 405, "GET is not possible at"),
        ("GET", "/admin/v1/rollouts/%ff", "", 400, "not UTF-8"),
        ("GET", "/admin/v1/routes/digits/explain", "", 400, "missing field `key`"),
        ("GET", "/admin/v1/routes/digits/explain?kee=1", "", 400, "expected ?key=user-42 behind the path"),
        ("GET", "/admin/v1/routes/digits/history?at_ms=noon", "", 400, "(Unix time in ms) behind the path"),
    ] {
        let (got, answer) = server.call(method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{method} {path}: {answer}");
    }
    let mut form = server.request("POST", abort, "{\"reason\": \"\"}");
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(server.send(form).await.status(), 415);
    assert!(server.rollouts.try_recv().is_err());
}

#[tokio::test]
async fn without_a_controller_the_answer_comes_at_once() {
    let mut server = Server::start().await;
    server.rollouts.close();
    let (status, body) = server.call("GET", "/admin/v1/rollouts", "").await;
    assert_eq!(status, 503, "{body}");
}

#[test]
fn openapi_has_every_field_of_a_rollout() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let view = serde_json::to_value(rollout()).unwrap();
    let served = serde_json::to_value(route_history("digits".into())).unwrap();
    let history = serde_json::to_value(History { id: "digits-3".into(), transitions: vec![] }).unwrap();
    let list = serde_json::to_value(RolloutList { rollouts: vec![] }).unwrap();
    let start = serde_json::to_value(crate::rollout::view::StartRequest::default()).unwrap();
    let explained = serde_json::to_value(explanation("digits".into(), "k".into())).unwrap();
    for (schema, value) in [
        ("RolloutList", &list),
        ("Rollout", &view),
        ("RolloutStep", &view["steps"][0]),
        ("Weights", &view["weights"]),
        ("RolloutArm", &view["arms"][0]),
        ("RolloutCheck", &view["checks"][0]),
        ("Count", &view["checks"][0]["candidate"]),
        ("RolloutGuard", &view["guards"][0]),
        ("SampleRatio", &view["sample_ratio"]),
        ("Shadow", &view["shadow"]),
        ("Transition", &view["last_transition"]),
        ("RolloutHistory", &history),
        ("Explanation", &explained),
        ("RouteHistory", &served),
        ("RouteRow", &served["served"][0]),
        ("StartRequest", &start),
    ] {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&document["components"]["schemas"][schema]["properties"]), keys(value), "{schema}");
    }
}
