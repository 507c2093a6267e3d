//! The house rules that can be counted by reading the sources: which rooms know which libraries and which other rooms,
//! where threads and tasks are started, where a metric is named, and how long files and functions may be.

use std::collections::BTreeSet;
use std::path::Path;

/// A file under src/.
struct Source {
    /// Relative to src/.
    path: String,
    text: String,
}

impl Source {
    /// The folder of src/ that it lies in, or its own name without `.rs`.
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether it only exists for tests.
    fn is_test(&self) -> bool {
        let is_folder_or_file = |name: &str| self.path.split('/').any(|part| part.trim_end_matches(".rs") == name);
        ["tests", "testing", "value_tests", "zoo_tests", "conformance"].into_iter().any(is_folder_or_file)
    }

    /// Its lines with their numbers, without comments and without the tests at its end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let program = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        program.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Places where its code has a word, as `path:line`.
    fn places(&self, word: &str) -> Vec<String> {
        let has = |line: &str| line.match_indices(word).any(|(at, _)| starts_a_word(line, at));
        self.code().filter(|(_, line)| has(line)).map(|(number, _)| format!("{}:{number}", self.path)).collect()
    }
}

/// Whether what is at this place is not the end of a longer name.
fn starts_a_word(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path: name, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    walk(&root, &root, &mut found);
    assert!(found.len() > 150, "only {} sources", found.len());
    found
}

/// The program: what isn't there for tests alone.
fn program() -> Vec<Source> {
    sources().into_iter().filter(|source| !source.is_test()).collect()
}

/// Fails with every place that is not allowed.
fn none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

/// Libraries that only some rooms know.
const LIBRARIES: [(&str, &[&str]); 10] = [
    ("tonic", &["grpc", "proto"]),
    // The composition root hands services to the accept loop; the command line is a client.
    ("hyper", &["server", "grpc", "http", "cli", "app"]),
    ("hyper_util", &["server", "cli", "app", "outbound"]),
    ("axum", &["admin"]),
    // One room sends to others, and to stores.
    ("object_store", &["outbound"]),
    ("reqwest", &["outbound"]),
    ("rustls", &["outbound"]),
    // Beside the wire, where ONNX and config.pbtxt are read.
    ("prost", &["grpc", "proto", "engine", "registry"]),
    ("prost_reflect", &["proto", "registry", "served_config"]),
    ("tract_onnx", &["engine"]),
];

#[test]
fn libraries_stay_in_their_rooms() {
    let program = program();
    for (library, rooms) in LIBRARIES {
        let word = format!("{library}::");
        let outside = program.iter().filter(|source| !rooms.contains(&source.room()));
        none(&format!("{library} is for {rooms:?}"), outside.flat_map(|source| source.places(&word)).collect());
    }
}

/// What each room names of the others. The list is exact: a name that is missing is a new dependency, which needs a
/// thought; one too many is a dependency that is gone.
const IMPORTS: [(&str, &str); 36] = [
    (
        "admin",
        "audit data_plane error inference prediction_log registry rollout routing servable signature telemetry tensor",
    ),
    (
        "app",
        "admin audit budget config data_plane engine grpc health http outbound prediction_log registry rollout routing server store telemetry",
    ),
    ("audit", "telemetry"),
    ("batching", "engine error inference signature telemetry tensor"),
    ("budget", "error"),
    ("classification", "error servable tensor"),
    (
        "cli",
        "admin app audit config engine error inference npz prediction_log registry rfc3339 rollout signature telemetry tensor yaml",
    ),
    ("config", "inference outbound prediction_log telemetry"),
    ("control", "error"),
    ("data_plane", "budget control error health inference prediction_log routing telemetry"),
    ("engine", "signature tensor"),
    ("error", "tensor"),
    (
        "grpc",
        "budget control data_plane error health inference pipeline prediction_log proto routing served_config signature telemetry tensor",
    ),
    ("health", ""),
    ("hmac", ""),
    (
        "http",
        "budget control data_plane error inference json pipeline prediction_log routing servable served_config signature telemetry tensor",
    ),
    ("inference", "error tensor"),
    ("json", "budget error inference tensor"),
    ("npz", "tensor"),
    ("outbound", "error hmac prediction_log store telemetry tensor"),
    ("pipeline", "batching classification data_plane engine error inference record routing servable tensor"),
    ("prediction_log", "error hmac inference rfc3339 routing signature telemetry tensor yaml"),
    ("proto", ""),
    ("record", "batching data_plane engine error inference prediction_log routing servable telemetry tensor"),
    (
        "registry",
        "batching budget config control data_plane engine error health inference json npz prediction_log proto routing servable served_config signature store telemetry tensor yaml",
    ),
    ("rfc3339", ""),
    (
        "rollout",
        "audit data_plane engine error health inference outbound prediction_log registry routing servable signature store telemetry tensor yaml",
    ),
    ("routing", "batching budget engine error inference servable telemetry tensor"),
    ("servable", "engine error inference prediction_log proto signature telemetry tensor"),
    ("served_config", "proto registry signature tensor"),
    ("server", "health telemetry"),
    ("signature", "error inference tensor"),
    ("store", "registry"),
    ("telemetry", "engine error inference"),
    ("tensor", ""),
    ("yaml", "error inference"),
];

#[test]
fn rooms_know_only_what_lies_below_them() {
    let mut found: Vec<(String, BTreeSet<String>)> = vec![];
    for source in program().iter().filter(|source| !["lib", "main"].contains(&source.room())) {
        let at = match found.iter().position(|(room, _)| room == source.room()) {
            Some(at) => at,
            None => {
                found.push((source.room().to_owned(), BTreeSet::new()));
                found.len() - 1
            }
        };
        for (_, line) in source.code() {
            for (start, word) in line.match_indices("crate::") {
                let name = line[start + word.len()..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
                found[at].1.insert(name.unwrap_or_default().to_owned());
            }
        }
        let room = found[at].0.clone();
        found[at].1.remove(&room);
    }
    found.sort();
    let listed =
        IMPORTS.iter().map(|(room, names)| ((*room).to_owned(), names.split_whitespace().map(str::to_owned).collect()));
    let listed: Vec<(String, BTreeSet<String>)> = listed.collect();
    for (room, names) in &found {
        let allowed =
            listed.iter().find(|(name, _)| name == room).map_or_else(BTreeSet::new, |(_, names)| names.clone());
        assert_eq!(*names, allowed, "what {room} names");
    }
    assert_eq!(found.len(), listed.len());
}

/// The data plane never names the control plane, and nobody but the composition root names both.
#[test]
fn the_data_plane_does_not_know_the_control_plane() {
    let data_plane = [
        "http",
        "grpc",
        "pipeline",
        "routing",
        "servable",
        "batching",
        "engine",
        "record",
        "prediction_log",
        "classification",
        "inference",
    ];
    for source in program().iter().filter(|source| data_plane.contains(&source.room())) {
        for above in ["registry", "rollout", "admin", "audit", "outbound", "store", "app", "cli", "config", "server"] {
            none("the data plane knows", source.places(&format!("crate::{above}")));
        }
    }
}

#[test]
fn the_path_has_no_lock_no_task_and_no_state() {
    let pipeline = sources().into_iter().find(|source| source.path == "pipeline.rs").unwrap();
    for word in ["Mutex", "RwLock", "spawn", "static ", "Atomic", "OnceLock", "thread_local", "unsafe"] {
        none("pipeline.rs is the path alone", pipeline.places(word));
    }
}

/// Files whose job is to decide.
#[test]
fn decisions_do_no_io_and_read_no_clock() {
    let is_decision = |source: &&Source| {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        name.ends_with("_policy.rs")
            || ["split.rs", "statistics.rs", "routes.rs", "labels.rs", "route.rs"].contains(&name)
            || source.path.starts_with("rollout/statistics/")
    };
    let sources = program();
    let decisions: Vec<&Source> = sources
        .iter()
        .filter(is_decision)
        // Protocol statistics are an answer, not a decision.
        .filter(|source| !source.path.ends_with("/statistics.rs"))
        .collect();
    assert!(decisions.len() >= 4, "{} files that decide", decisions.len());
    for source in decisions {
        for word in ["Instant::now", "SystemTime::now", "std::fs", "std::net", "fastrand", "tokio", "thread::"] {
            none("a file that decides", source.places(word));
        }
    }
}

/// Where tasks, threads and processes are started, and why.
const STARTS: [(&str, &str); 31] = [
    ("admin/audit.rs", "the audit log is written and read where that may block"),
    ("admin/change.rs", "a change goes on when its caller leaves"),
    ("admin/log.rs", "sealing is waited for where that may block"),
    ("app/prediction_log.rs", "the log's end is waited for where that may block"),
    ("batching/autoscale.rs", "the thread that scales all pools"),
    ("batching/cores.rs", "the compute threads"),
    ("cli/client.rs", "the command line's own runtime"),
    ("cli/inspect/probe.rs", "an unknown file is loaded on a stack of a server's thread"),
    ("cli/serve.rs", "the server's runtime"),
    ("engine/onnxruntime/stoppable.rs", "a run that may take long, for the worker to end it"),
    ("engine/ops/control/nested.rs", "no thread: the engine's word for the state of one run"),
    ("engine/tract/builder.rs", "the thread that builds plans which shapes have earned"),
    ("engine/tract/graph.rs", "no thread: the engine's word for the state of one run"),
    ("http/body.rs", "large bodies are decompressed where that may block"),
    ("http/mod.rs", "large answers are compressed where that may block"),
    ("outbound/row_events/mod.rs", "the thread that tells rows as events"),
    ("outbound/upload/mod.rs", "the thread that uploads sealed files"),
    ("outbound/webhooks.rs", "the thread that delivers to webhooks"),
    ("prediction_log/feedback/log.rs", "the thread that keeps feedback"),
    ("prediction_log/quality/read_back.rs", "the thread that reads the log once after a restart"),
    ("prediction_log/seal/mod.rs", "the thread that seals segments"),
    ("prediction_log/writer/mod.rs", "the thread that writes rows"),
    ("registry/loader.rs", "the threads that load, a bounded share of the cores"),
    ("registry/manager/actor.rs", "the manager's thread"),
    ("registry/manager/scanner.rs", "the thread that looks at the repositories"),
    ("registry/measurer.rs", "the thread that measures batch sizes"),
    ("registry/probe.rs", "the child process that tries an unknown file"),
    ("rollout/controller/mod.rs", "the controller's thread"),
    ("rollout/controller/tasks.rs", "loading the arms, and trying a candidate out where that may block"),
    ("server/mod.rs", "one task a connection"),
    ("telemetry/recorder.rs", "upkeep of the process's series"),
];

#[test]
fn tasks_and_threads_are_started_where_it_is_known() {
    for source in program() {
        if STARTS.iter().any(|(path, _)| *path == source.path) {
            let starts = ["spawn", "JoinSet", "block_on"].iter().flat_map(|word| source.places(word)).count();
            assert!(starts > 0, "{} starts nothing any more", source.path);
            continue;
        }
        for word in ["spawn", "spawn_blocking", "JoinSet", "block_on", "rayon"] {
            none("starts something", source.places(word));
        }
    }
}

/// Every channel has a bound. What looks like one without is listed with what bounds it.
const UNBOUNDED: [(&str, &str); 1] = [("registry/loader.rs", "at most one job for each version is under way")];

#[test]
fn channels_are_bounded() {
    for source in program() {
        let mut places = source.places("unbounded_channel");
        places.extend(source.places("UnboundedSender"));
        if source.text.contains("use std::sync::mpsc") || source.text.contains("std::sync::{") {
            places.extend(source.places("mpsc::channel()"));
        }
        if !UNBOUNDED.iter().any(|(path, _)| *path == source.path) {
            none("a channel without a bound", places);
        }
    }
}

#[test]
fn metrics_are_named_in_one_room() {
    for source in program().iter().filter(|source| source.room() != "telemetry") {
        for prefix in ["\"headgate_", "\"nv_inference_"] {
            let named = source.code().filter(|(_, line)| line.contains(prefix));
            none("a metric's name", named.map(|(number, _)| format!("{}:{number}", source.path)).collect());
        }
    }
}

/// Where there is unsafe code, and what for.
const UNSAFE: [(&str, &str); 12] = [
    ("engine/onnxruntime/convert.rs", "a tensor's bytes are lent to the library, and its outputs are copied once"),
    ("engine/onnxruntime/memory.rs", "the C library's call that gives freed memory back"),
    (
        "engine/ops/convolution/bytes_dense.rs",
        "instructions that the processor was found to have, pointers as in dense.rs",
    ),
    ("engine/ops/convolution/bytes_depthwise.rs", "the same"),
    ("engine/ops/convolution/channelwise.rs", "vectors are read behind pointers that window.rs keeps within images"),
    ("engine/ops/convolution/dense.rs", "the same, and weights in the order in which they are packed"),
    ("engine/ops/convolution/vector.rs", "instructions that the processor was found to have"),
    ("engine/ops/convolution/window.rs", "the loop over places is compiled for the vectors that the processor has"),
    ("engine/ops/ml/dense.rs", "calls what is compiled for AVX2, where the processor has it"),
    ("engine/ops/wide.rs", "the same"),
    ("engine/ops/written.rs", "a tensor that is about to be written isn't filled with zeros before"),
    ("engine/tract/convert.rs", "a tensor's bytes become the engine's in one copy"),
];

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    for source in sources() {
        let path = &source.path;
        for word in ["TODO", "FIXME", "HACK"] {
            assert!(!source.text.contains(word), "{path}: {word}");
        }
        for word in ["unimplemented!", "todo!", "dbg!", "allow(dead_code)", "allow(unused"] {
            none("unfinished or silenced", source.places(word));
        }
    }
    for source in program().iter().filter(|source| !UNSAFE.iter().any(|(path, _)| *path == source.path)) {
        none("unsafe code", source.places("unsafe"));
    }
    for source in program() {
        for word in [".unwrap()", "println!", "print!"] {
            let places = source.code().filter(|(_, line)| line.contains(word) && !line.contains("eprintln!"));
            let places: Vec<String> = places.map(|(number, _)| format!("{}:{number}", source.path)).collect();
            none(&format!("{word} in the program"), places);
        }
    }
}

#[test]
fn files_are_short() {
    const LONGEST: usize = 450;
    const LONGEST_MEDIAN: usize = 150;
    let mut lengths: Vec<(usize, String)> =
        sources().into_iter().map(|source| (source.text.lines().count(), source.path)).collect();
    lengths.sort();
    let (median, longest) = (lengths[lengths.len() / 2].0, lengths.last().unwrap());
    let under_400 = lengths.iter().filter(|(length, _)| *length < 400).count() * 100 / lengths.len();
    println!("tidy: {} files, median {median} lines, longest {longest:?}, {under_400} % under 400", lengths.len());
    assert!(median <= LONGEST_MEDIAN, "{median}");
    assert!(longest.0 <= LONGEST, "{longest:?}");
    assert!(under_400 >= 90, "{under_400} %");
}

#[test]
fn functions_are_short_and_take_few_arguments() {
    const LONGEST: usize = 70;
    const MOST_PARAMETERS: usize = 5;
    let (mut longest, mut too_many) = ((0, String::new()), vec![]);
    for source in program() {
        for function in functions(&source) {
            let place = format!("{}:{} {}", source.path, function.line, function.name);
            if function.parameters > MOST_PARAMETERS {
                too_many.push(format!("{place} takes {}", function.parameters));
            }
            longest = longest.max((function.lines, place));
        }
    }
    println!("tidy: longest function {longest:?}");
    none("a function with too many parameters", too_many);
    assert!(longest.0 <= LONGEST, "{longest:?}");
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

/// The functions of a formatted file: one ends at the brace under its first letter.
fn functions(source: &Source) -> Vec<Function> {
    let program = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines: Vec<&str> = program.lines().collect();
    let mut found = vec![];
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some((before, rest)) = trimmed.split_once("fn ") else { continue };
        let is_definition = before
            .split_whitespace()
            .all(|word| word.starts_with("pub") || word == "super)" || ["const", "async", "unsafe"].contains(&word));
        if !is_definition || trimmed.starts_with("//") {
            continue;
        }
        let end = |candidate: &&str| candidate.starts_with(&format!("{}}}", " ".repeat(indent)));
        let one_line = line.ends_with('}') || line.ends_with(';');
        let lines_long = if one_line { 1 } else { lines[at..].iter().position(end).unwrap_or(0) + 1 };
        let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
        let parameters = parameters(&lines[at..].join("\n"));
        found.push(Function { name, line: at + 1, lines: lines_long, parameters });
    }
    found
}

/// Counts the parameters of the function that a text begins with, without its receiver.
fn parameters(text: &str) -> usize {
    let signature = text.split_once("fn ").map_or("", |(_, rest)| rest);
    let (mut depth, mut angle, mut begun, mut list) = (0i32, 0i32, false, String::new());
    let mut before = ' ';
    for c in signature.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '<' => angle += 1,
            '>' if before != '-' && before != '=' => angle -= 1,
            _ => {}
        }
        if begun && depth == 0 {
            break;
        }
        if c == '(' && depth == 1 && (angle == 0) && !begun {
            begun = true;
        } else if begun {
            list.push(if c == ',' && depth == 1 && angle == 0 {
                '\n'
            } else if c == '\n' {
                ' '
            } else {
                c
            });
        }
        before = c;
    }
    let is_parameter = |part: &&str| !part.trim().is_empty() && !part.trim().trim_end_matches(',').ends_with("self");
    list.split('\n').filter(is_parameter).count()
}

#[test]
fn the_counting_of_parameters_itself() {
    for (text, count) in [
        ("fn a() {}", 0),
        ("pub fn a(&self) {}", 0),
        ("fn a<F: Fn(u8, u8) -> u8>(self, f: F, x: BTreeMap<u8, u8>) {}", 2),
        ("async fn a(\n    x: (u8, u8),\n    y: impl Fn(u8) -> u8,\n    z: &[u8],\n) -> u8 {", 3),
    ] {
        assert_eq!(parameters(text), count, "{text}");
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (mut section, mut before, mut count) = ("", "", 0);
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") && line.contains('=') {
            let reason = line.split_once(" # ").map_or(before.trim_start_matches("# "), |(_, reason)| reason);
            assert!(reason.len() > 3 && (line.contains(" # ") || before.starts_with('#')), "no reason beside: {line}");
            count += 1;
        }
        before = line;
    }
    println!("tidy: {count} dependencies, each with its reason");
    assert!(count > 30);
}
