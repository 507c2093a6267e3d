//! The clients' side: real images of digits, and what came back for each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use headgate::proto::inference::InferParameter;
use headgate::proto::inference::infer_parameter::ParameterChoice;
use headgate::tensor::{DataType, Tensor};
use tokio::task::JoinHandle;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

use crate::support::infer::{Call, Wires, grpc_request, http_body, http_reply, infer_path};
use crate::support::server::Server;
use crate::support::{eventually, tensors, zoo};

const CLIENTS: usize = 8;
/// v6 answers NaN for images whose pixels sum to more.
const BRIGHT: f64 = 21.5;

pub type Image = Vec<(String, Tensor)>;

/// Images of digits, a row each.
pub fn images() -> Vec<Image> {
    let (name, batch) = zoo::inputs("digits_cnn_v2", "b32").remove(0);
    let rows = batch.shape()[0];
    let pixels: Vec<f32> = batch.elements::<f32>().collect();
    let row = |pixels: &[f32]| Tensor::from_elements(DataType::Fp32, vec![1, 1, 8, 8], pixels).unwrap();
    pixels.chunks(pixels.len() / rows).map(|pixels| vec![(name.clone(), row(pixels))]).collect()
}

fn is_bright(image: &Image) -> bool {
    tensors::floats(&image[0].1).unwrap().iter().sum::<f64>() > BRIGHT
}

/// The bright images, of which there are some.
pub fn bright() -> Vec<Image> {
    let bright: Vec<Image> = images().into_iter().filter(is_bright).collect();
    assert!(!bright.is_empty());
    bright
}

/// The others.
pub fn dark() -> Vec<Image> {
    images().into_iter().filter(|image| !is_bright(image)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Http,
    Grpc,
}

impl Wire {
    pub const BOTH: [Self; 2] = [Self::Http, Self::Grpc];
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Ask<'a> {
    /// `digits` where it is empty.
    pub model: &'a str,
    pub version: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    /// Of the Open Inference Protocol.
    pub parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Ask<'a> {
    /// With a sticky key in the header.
    pub fn keyed(key: &'a str) -> Self {
        Self { headers: vec![("headgate-key", key)], ..Self::default() }
    }
}

/// Who answered, and whether with numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub arm: String,
    pub version: u64,
    pub finite: bool,
}

/// Asks once.
pub async fn ask(wires: &Wires, wire: Wire, image: &Image, ask: &Ask<'_>) -> Result<Served, String> {
    let model = if ask.model.is_empty() { "digits" } else { ask.model };
    let call = Call { model, version: ask.version, inputs: image };
    match wire {
        Wire::Http => ask_http(wires, &call, ask).await,
        Wire::Grpc => ask_grpc(wires, &call, ask).await,
    }
}

async fn ask_http(wires: &Wires, call: &Call<'_>, ask: &Ask<'_>) -> Result<Served, String> {
    let (head, _, body) = http_body(call, true);
    let own: String = ask.parameters.iter().map(|(name, value)| format!(r#""{name}":"{value}","#)).collect();
    let head = head.replacen(r#"{"parameters":{"#, &format!(r#"{{"parameters":{{{own}"#), 1);
    let mut request = http::Request::post("/").header("Inference-Header-Content-Length", head.len());
    for (name, value) in &ask.headers {
        request = request.header(*name, *value);
    }
    let answer = wires.http.send(request, &infer_path(call), [head.into_bytes(), body].concat()).await?;
    let arm = answer.header("headgate-arm").to_owned();
    let reply = http_reply(answer).map_err(|refusal| refusal.to_string())?;
    Ok(Served { arm, version: reply.version, finite: is_finite(&reply.outputs["probabilities"]) })
}

async fn ask_grpc(wires: &Wires, call: &Call<'_>, ask: &Ask<'_>) -> Result<Served, String> {
    let mut message = grpc_request(call, true);
    for (name, value) in &ask.parameters {
        let choice = ParameterChoice::StringParam((*value).to_owned());
        message.parameters.insert((*name).to_owned(), InferParameter { parameter_choice: Some(choice) });
    }
    let mut request = tonic::Request::new(message);
    for (name, value) in &ask.headers {
        let name: AsciiMetadataKey = name.parse().unwrap();
        request.metadata_mut().insert(name, value.parse::<AsciiMetadataValue>().unwrap());
    }
    let response = wires.grpc.clone().model_infer(request).await.map_err(|status| format!("{status:?}"))?;
    let text = |name| response.metadata().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (arm, version) = (text("headgate-arm"), text("headgate-version").parse().unwrap());
    let response = response.into_inner();
    let shape = response.outputs[0].shape.iter().map(|&dim| dim as usize).collect();
    let output = Tensor::from_raw(DataType::Fp32, shape, response.raw_output_contents[0].clone()).unwrap();
    Ok(Served { arm, version, finite: is_finite(&output) })
}

fn is_finite(output: &Tensor) -> bool {
    tensors::floats(output).unwrap().iter().all(|value| value.is_finite())
}

/// How a key is sent: in the header to `digits`, unless said otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keyed {
    pub model: &'static str,
    /// Of the Open Inference Protocol, in place of the header.
    pub as_parameter: bool,
}

impl Keyed {
    fn ask(self, key: &str) -> Ask<'_> {
        let key = vec![("headgate-key", key)];
        let (headers, parameters) = if self.as_parameter { (vec![], key) } else { (key, vec![]) };
        Ask { model: self.model, version: "", headers, parameters }
    }
}

/// Who answers each of these keys, over one wire, asked one after the other on a connection of their own.
pub async fn arms_of(server: &Server, wire: Wire, keys: impl Iterator<Item = String>) -> BTreeMap<String, Served> {
    arms_by(server, wire, keys, Keyed::default()).await
}

/// The same with another way of sending the key.
pub async fn arms_by(
    server: &Server,
    wire: Wire,
    keys: impl Iterator<Item = String>,
    keyed: Keyed,
) -> BTreeMap<String, Served> {
    let (wires, image) = (Wires::connect(server).await, &dark()[0]);
    let mut arms = BTreeMap::new();
    for key in keys {
        let served = ask(&wires, wire, image, &keyed.ask(&key)).await.unwrap();
        arms.insert(key, served);
    }
    arms
}

/// The keys of the tests that follow some.
pub fn keys(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("user-{number}"))
}

/// Who answers so many keys, over both wires at once; each key over one of them.
pub async fn counted(server: &Server, count: usize) -> BTreeMap<String, u64> {
    let share = |client: usize| {
        let keys = keys(count).skip(client).step_by(CLIENTS);
        arms_of(server, Wire::BOTH[client % 2], keys)
    };
    let mut counts = BTreeMap::new();
    for served in join_all((0..CLIENTS).map(share)).await.into_iter().flat_map(BTreeMap::into_values) {
        *counts.entry(served.arm).or_default() += 1;
    }
    counts
}

/// What the clients of a load have met.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By arm and version.
    answers: BTreeMap<(String, u64), u64>,
    not_finite: BTreeMap<u64, u64>,
    pub failures: Vec<String>,
}

impl Seen {
    pub fn all(&self) -> u64 {
        self.answers.values().sum()
    }

    pub fn of_version(&self, version: u64) -> u64 {
        self.answers.iter().filter(|((_, of), _)| *of == version).map(|(_, count)| count).sum()
    }

    /// Answers of a version that were not all numbers.
    pub fn not_finite(&self, version: u64) -> u64 {
        self.not_finite.get(&version).copied().unwrap_or_default()
    }

    fn note(&mut self, result: Result<Served, String>) {
        match result {
            Err(failure) => self.failures.push(failure),
            Ok(served) => {
                *self.not_finite.entry(served.version).or_default() += u64::from(!served.finite);
                *self.answers.entry((served.arm, served.version)).or_default() += 1;
            }
        }
    }
}

/// Clients that ask in a closed loop, half of them over each wire, each time for another user.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub async fn start(server: &Server, images: Vec<Image>) -> Self {
        Self::of(server, images, CLIENTS).await
    }

    pub async fn of(server: &Server, images: Vec<Image>, clients: usize) -> Self {
        let (stop, seen, images) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default(), Arc::new(images));
        let mut tasks = vec![];
        for client in 0..clients {
            let (wires, stop, seen, images) =
                (Wires::connect(server).await, stop.clone(), seen.clone(), images.clone());
            tasks.push(tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(client as u64);
                while !stop.load(SeqCst) {
                    let user = format!("user-{}", random.u64(..));
                    let image = &images[random.usize(..images.len())];
                    let result = ask(&wires, Wire::BOTH[client % 2], image, &Ask::keyed(&user)).await;
                    seen.lock().unwrap().note(result);
                }
            }));
        }
        Self { stop, seen, clients: tasks }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for so many answers more.
    pub async fn answers(&self, count: u64) {
        let before = self.seen().all();
        eventually("more answers", async || match self.seen().all() {
            all if all >= before + count => Ok(()),
            all => Err(format!("{} of {count}", all - before)),
        })
        .await;
    }

    /// Ends it: what was met, in which nothing failed.
    pub async fn ends_well(self) -> Seen {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        let seen = self.seen.lock().unwrap().clone();
        assert!(seen.failures.is_empty(), "{} failures, the first: {}", seen.failures.len(), seen.failures[0]);
        seen
    }
}
