//! Method and raw path -> what is asked for. Pure: no model is looked up here.
//!
//! Paths match whole, without a trailing slash. Segments are split before they are percent-decoded, so an encoded
//! slash is a character of a name (which no model has), never a separator.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};
use crate::inference::{ModelRef, printable};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// KServe V1's liveness: `GET /`.
    Alive,
    ServerMetadata,
    OpenApi,
    Live,
    Ready,
    /// About one model, or some versions of it.
    Model(ModelRef, ModelCall),
    AllStatistics,
    Feedback,
    RepositoryIndex,
    Load(String),
    Unload(String),
    /// The repository calls with a repository's name in the path.
    NamedRepository,
    GlobalTrace(Access),
    ModelTrace(String, Access),
    Logging(Access),
    SharedMemory,
    V1Models,
    V1(ModelRef, V1Call),
}

/// What of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelCall {
    Metadata,
    Ready,
    Config,
    Statistics,
    Infer,
    Generate,
    GenerateStream,
}

/// What of a model, by the paths that KServe V1 and TensorFlow Serving share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1Call {
    Status,
    Metadata,
    Predict,
    Classify,
    Regress,
    Explain,
}

/// Reading or changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Why there is no route.
#[derive(Debug)]
pub enum Miss {
    NotFound,
    /// The path exists; the methods that it answers, as an `Allow` header.
    MethodNotAllowed(&'static str),
    /// The path has the right form, but a name in it is none.
    Bad(Error),
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self::Bad(error)
    }
}

/// The methods a path answers. HEAD goes wherever GET goes; the server leaves out the body.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Get,
    Post,
    GetOrPost,
}

/// Finds the route of a raw request path (as it came, still percent-encoded).
///
/// # Errors
/// `Miss`.
pub fn find(method: &Method, path: &str) -> Result<Route, Miss> {
    let Some(path) = path.strip_prefix('/') else { return Err(Miss::NotFound) };
    let segments: Vec<&str> = path.split('/').collect();
    let access = if method == Method::POST { Access::Write } else { Access::Read };
    let (verb, route) = match segments.as_slice() {
        [""] => (Verb::Get, Ok(Route::Alive)),
        ["v2"] => (Verb::Get, Ok(Route::ServerMetadata)),
        ["v2", "openapi.json"] => (Verb::Get, Ok(Route::OpenApi)),
        ["v2", "health", "live"] => (Verb::Get, Ok(Route::Live)),
        ["v2", "health", "ready"] => (Verb::Get, Ok(Route::Ready)),
        ["v2", "models", "stats"] => (Verb::Get, Ok(Route::AllStatistics)),
        ["v2", "feedback"] => (Verb::Post, Ok(Route::Feedback)),
        ["v2", "trace", "setting"] => (Verb::GetOrPost, Ok(Route::GlobalTrace(access))),
        ["v2", "models", model, "trace", "setting"] => {
            (Verb::GetOrPost, plain_name(model).map(|model| Route::ModelTrace(model, access)))
        }
        ["v2", "models", model, "versions", version, rest @ ..] if is_version(version) => {
            let (verb, call) = model_call(rest)?;
            (verb, reference(model, version).map(|model| Route::Model(model, call)))
        }
        ["v2", "models", model, rest @ ..] => {
            let (verb, call) = model_call(rest)?;
            (verb, reference(model, "").map(|model| Route::Model(model, call)))
        }
        ["v2", "repository", rest @ ..] => (Verb::Post, repository(rest)?),
        ["v2", "logging"] => (Verb::GetOrPost, Ok(Route::Logging(access))),
        ["v2", "systemsharedmemory" | "cudasharedmemory", rest @ ..] => (shared_memory(rest)?, Ok(Route::SharedMemory)),
        [v1, rest @ ..] if v1.eq_ignore_ascii_case("v1") => v1_call(rest)?,
        _ => return Err(Miss::NotFound),
    };
    check_verb(verb, method)?;
    Ok(route?)
}

fn check_verb(verb: Verb, method: &Method) -> Result<(), Miss> {
    let read = method == Method::GET || method == Method::HEAD;
    let write = method == Method::POST;
    match verb {
        Verb::Get if !read => Err(Miss::MethodNotAllowed("GET, HEAD")),
        Verb::Post if !write => Err(Miss::MethodNotAllowed("POST")),
        Verb::GetOrPost if !read && !write => Err(Miss::MethodNotAllowed("GET, HEAD, POST")),
        _ => Ok(()),
    }
}

fn model_call(rest: &[&str]) -> Result<(Verb, ModelCall), Miss> {
    Ok(match rest {
        [] => (Verb::Get, ModelCall::Metadata),
        ["ready"] => (Verb::Get, ModelCall::Ready),
        ["config"] => (Verb::Get, ModelCall::Config),
        ["stats"] => (Verb::Get, ModelCall::Statistics),
        ["infer"] => (Verb::Post, ModelCall::Infer),
        ["generate"] => (Verb::Post, ModelCall::Generate),
        ["generate_stream"] => (Verb::Post, ModelCall::GenerateStream),
        _ => return Err(Miss::NotFound),
    })
}

fn repository(rest: &[&str]) -> Result<Result<Route>, Miss> {
    Ok(match rest {
        ["index"] => Ok(Route::RepositoryIndex),
        ["models", model, "load"] => plain_name(model).map(Route::Load),
        ["models", model, "unload"] => plain_name(model).map(Route::Unload),
        [_, "index"] | [_, "models", _, "load" | "unload"] => Ok(Route::NamedRepository),
        _ => return Err(Miss::NotFound),
    })
}

fn shared_memory(rest: &[&str]) -> Result<Verb, Miss> {
    match rest {
        ["status"] | ["region", _, "status"] => Ok(Verb::Get),
        ["unregister"] | ["region", _, "register" | "unregister"] => Ok(Verb::Post),
        _ => Err(Miss::NotFound),
    }
}

/// `models[/<m>[/versions/<n>|/labels/<l>]][/metadata|:<verb>]`, fixed parts in any case, as TensorFlow Serving takes
/// them.
fn v1_call(rest: &[&str]) -> Result<(Verb, Result<Route>), Miss> {
    let is = |segment: &str, word: &str| segment.eq_ignore_ascii_case(word);
    let (target, last) = match rest {
        [models] if is(models, "models") => return Ok((Verb::Get, Ok(Route::V1Models))),
        [models, target @ .., last] if is(models, "models") => (target, *last),
        _ => return Err(Miss::NotFound),
    };
    if is(last, "metadata") && !target.is_empty() {
        return Ok((Verb::Get, v1_model(target)?.map(|model| Route::V1(model, V1Call::Metadata))));
    }
    let (last, verb, call) = match last.rsplit_once(':') {
        None => (last, Verb::Get, V1Call::Status),
        Some((last, word)) if is(word, "predict") => (last, Verb::Post, V1Call::Predict),
        Some((last, word)) if is(word, "classify") => (last, Verb::Post, V1Call::Classify),
        Some((last, word)) if is(word, "regress") => (last, Verb::Post, V1Call::Regress),
        Some((last, word)) if is(word, "explain") => (last, Verb::Post, V1Call::Explain),
        Some(_) => return Err(Miss::NotFound),
    };
    let target: Vec<&str> = target.iter().copied().chain([last]).collect();
    Ok((verb, v1_model(&target)?.map(|model| Route::V1(model, call))))
}

fn v1_model(target: &[&str]) -> Result<Result<ModelRef>, Miss> {
    match target {
        [model] => Ok(reference(model, "")),
        [model, word, version] if word.eq_ignore_ascii_case("versions") && is_version(version) => {
            Ok(reference(model, version))
        }
        [model, word, label] if word.eq_ignore_ascii_case("labels") => {
            Ok(decode(model).and_then(|model| ModelRef::with_label(&model, &decode(label)?)))
        }
        _ => Err(Miss::NotFound),
    }
}

fn is_version(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

fn reference(model: &str, version: &str) -> Result<ModelRef> {
    ModelRef::parse(&decode(model)?, version)
}

/// A model's name where no label can be meant.
fn plain_name(segment: &str) -> Result<String> {
    let name = decode(segment)?;
    match crate::inference::name_fault(&name) {
        None => Ok(name),
        Some(reason) => Err(Error::BadName { name: printable(&name), reason }),
    }
}

fn decode(segment: &str) -> Result<String> {
    match percent_decode_str(segment).decode_utf8() {
        Ok(name) => Ok(name.into_owned()),
        Err(_) => Err(Error::BadName { name: printable(segment), reason: "it is not UTF-8 once it is decoded" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::VersionChoice;

    fn get(path: &str) -> Result<Route, Miss> {
        find(&Method::GET, path)
    }

    fn post(path: &str) -> Result<Route, Miss> {
        find(&Method::POST, path)
    }

    fn model(name: &str, version: &str) -> ModelRef {
        ModelRef::parse(name, version).unwrap()
    }

    #[test]
    fn each_path_has_its_route() {
        use {ModelCall::*, Route::*};
        let table = [
            ("/", Alive),
            ("/v2", ServerMetadata),
            ("/v2/openapi.json", OpenApi),
            ("/v2/health/live", Live),
            ("/v2/health/ready", Route::Ready),
            ("/v2/models/stats", AllStatistics),
            ("/v2/models/m", Model(model("m", ""), Metadata)),
            ("/v2/models/m/versions/2", Model(model("m", "2"), Metadata)),
            ("/v2/models/m/ready", Model(model("m", ""), ModelCall::Ready)),
            ("/v2/models/m/versions/7/ready", Model(model("m", "7"), ModelCall::Ready)),
            ("/v2/models/m/config", Model(model("m", ""), Config)),
            ("/v2/models/m/stats", Model(model("m", ""), Statistics)),
            ("/v2/models/stats/stats", Model(model("stats", ""), Statistics)),
            ("/v2/models/versions/versions/1/stats", Model(model("versions", "1"), Statistics)),
            ("/v2/models/digits%40stable/ready", Model(model("digits@stable", ""), ModelCall::Ready)),
            ("/v2/models/a%20b", Model(model("a b", ""), Metadata)),
            ("/v2/trace/setting", GlobalTrace(Access::Read)),
            ("/v2/models/m/trace/setting", ModelTrace("m".into(), Access::Read)),
            ("/v2/logging", Logging(Access::Read)),
            ("/v2/systemsharedmemory/status", SharedMemory),
            ("/v2/cudasharedmemory/region/r/status", SharedMemory),
        ];
        for (path, route) in table {
            assert_eq!(get(path).unwrap(), route, "{path}");
        }
        let table = [
            ("/v2/models/m/infer", Model(model("m", ""), Infer)),
            ("/v2/models/m/versions/3/infer", Model(model("m", "3"), Infer)),
            ("/v2/models/m/generate", Model(model("m", ""), Generate)),
            ("/v2/models/m/generate_stream", Model(model("m", ""), GenerateStream)),
            ("/v2/feedback", Feedback),
            ("/v2/repository/index", RepositoryIndex),
            ("/v2/repository/models/m/load", Load("m".into())),
            ("/v2/repository/models/m/unload", Unload("m".into())),
            ("/v2/repository/mine/models/m/load", NamedRepository),
            ("/v2/repository/mine/index", NamedRepository),
            ("/v2/trace/setting", GlobalTrace(Access::Write)),
            ("/v2/logging", Logging(Access::Write)),
            ("/v2/systemsharedmemory/unregister", SharedMemory),
            ("/v2/cudasharedmemory/region/r/register", SharedMemory),
        ];
        for (path, route) in table {
            assert_eq!(post(path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn v1_paths_in_any_case() {
        assert_eq!(get("/v1/models").unwrap(), Route::V1Models);
        assert_eq!(get("/V1/Models/M").unwrap(), Route::V1(model("M", ""), V1Call::Status));
        assert_eq!(get("/v1/models/m/METADATA").unwrap(), Route::V1(model("m", ""), V1Call::Metadata));
        assert_eq!(get("/v1/models/metadata").unwrap(), Route::V1(model("metadata", ""), V1Call::Status));
        assert_eq!(get("/v1/models/m/versions/3/metadata").unwrap(), Route::V1(model("m", "3"), V1Call::Metadata));
        assert_eq!(post("/v1/MODELS/m:Predict").unwrap(), Route::V1(model("m", ""), V1Call::Predict));
        assert_eq!(post("/v1/models/m/versions/3:predict").unwrap(), Route::V1(model("m", "3"), V1Call::Predict));
        assert_eq!(post("/v1/models/m:explain").unwrap(), Route::V1(model("m", ""), V1Call::Explain));
        let Route::V1(labelled, V1Call::Predict) = post("/v1/models/m/labels/stable:predict").unwrap() else {
            panic!()
        };
        assert_eq!((labelled.name.as_str(), labelled.asked.as_str()), ("m", "m"));
        assert_eq!(labelled.version, VersionChoice::Label("stable".into()));
    }

    #[test]
    fn what_is_no_path_is_not_found() {
        for path in [
            "",
            "*",
            "//v2",
            "/v2/",
            "/V2",
            "/v3",
            "/v2/health",
            "/v2/health/live/",
            "/v2/models",
            "/v2/models/m/",
            "/v2/models/m/versions",
            "/v2/models/m/versions/one",
            "/v2/models/m/versions/-1",
            "/v2/models/m/versions//ready",
            "/v2/models/m/versions/1/trace/setting",
            "/v2/models/a/b/ready",
            "/%76%32",
            "/v2/models/m/infer/x",
            "/v1",
            "/v1/models/m:what",
            "/v1/models/m/versions/x",
            "/v1/models/m/labels",
            "/v1/models/m/versions/1/2",
            "/metrics",
        ] {
            assert!(matches!(get(path), Err(Miss::NotFound)), "{path}");
        }
    }

    #[test]
    fn a_wrong_verb_is_told_the_right_one() {
        assert!(matches!(post("/v2"), Err(Miss::MethodNotAllowed("GET, HEAD"))));
        assert!(matches!(get("/v2/models/m/infer"), Err(Miss::MethodNotAllowed("POST"))));
        assert!(matches!(get("/v2/feedback"), Err(Miss::MethodNotAllowed("POST"))));
        assert!(matches!(get("/v2/repository/index"), Err(Miss::MethodNotAllowed("POST"))));
        assert!(matches!(find(&Method::DELETE, "/v2/logging"), Err(Miss::MethodNotAllowed("GET, HEAD, POST"))));
        assert!(matches!(get("/v1/models/m:predict"), Err(Miss::MethodNotAllowed("POST"))));
        assert!(find(&Method::HEAD, "/v2/health/ready").is_ok());
    }

    #[test]
    fn names_that_could_become_paths_are_refused() {
        for name in ["..", "%2e%2e", "a%2fb", "..%2f..%2fetc", "a%5cb", "a%00b", ".hidden", "%ff", "", "m%40"] {
            let path = format!("/v2/models/{name}/ready");
            assert!(matches!(get(&path), Err(Miss::Bad(Error::BadName { .. }))), "{path}");
        }
        assert!(matches!(post("/v2/repository/models/..%2fx/load"), Err(Miss::Bad(Error::BadName { .. }))));
        assert!(matches!(get("/v2/models/m/versions/99999999999999999999"), Err(Miss::Bad(_))));
        assert!(matches!(get("/v1/models/m/labels/..:predict"), Err(Miss::NotFound | Miss::MethodNotAllowed(_))));
    }
}
