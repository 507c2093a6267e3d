//! The floor: servers that read a request and answer bytes that were made before. What they cost is the machine's network
//! path and the protocol's library, which a model server can't be cheaper than.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

use headgate::proto::inference::{ModelInferRequest, ModelInferResponse};

/// Largest request over gRPC.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address for HTTP/1.1
    #[arg(long)]
    http_address: Option<SocketAddr>,
    /// File with the body of every answer over HTTP
    #[arg(long, requires = "http_address")]
    http_answer: Option<PathBuf>,
    /// Drop the pieces of a body as they come, in place of keeping it until it is whole
    #[arg(long)]
    drop_bodies: bool,
    /// Address for gRPC
    #[arg(long)]
    grpc_address: Option<SocketAddr>,
    /// File with the ModelInferResponse that answers every call
    #[arg(long, requires = "grpc_address")]
    grpc_answer: Option<PathBuf>,
}

/// Serves until the process is killed.
pub fn run(args: &Args) -> Result<Value, String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let http = async {
            match args.http_address {
                Some(address) => serve_http(address, read(args.http_answer.as_ref())?, args.drop_bodies).await,
                None => std::future::pending().await,
            }
        };
        let grpc = async {
            match args.grpc_address {
                Some(address) => serve_grpc(address, read(args.grpc_answer.as_ref())?).await,
                None => std::future::pending().await,
            }
        };
        tokio::try_join!(http, grpc).map(|(never, _)| never)
    })
}

fn read(file: Option<&PathBuf>) -> Result<Bytes, String> {
    let file = file.ok_or("the floor needs a file with its answer")?;
    std::fs::read(file).map(Bytes::from).map_err(|error| format!("{}: {error}", file.display()))
}

// ---- HTTP/1.1 ----

async fn serve_http(address: SocketAddr, answer: Bytes, drop_bodies: bool) -> Result<Value, String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, answer.clone(), drop_bodies));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // The generator leaves when it is done.
            drop(connection.await);
        });
    }
}

async fn respond(
    request: http::Request<Incoming>,
    answer: Bytes,
    drop_bodies: bool,
) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    if drop_bodies {
        while let Some(frame) = body.frame().await {
            drop(frame?);
        }
    } else {
        std::hint::black_box(body.collect().await?.to_bytes());
    }
    let mut response = http::Response::new(Full::new(answer));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

// ---- gRPC ----

/// tonic's own reading, decoding, encoding and framing of a call, without routing.
async fn serve_grpc(address: SocketAddr, answer: Bytes) -> Result<Value, String> {
    let answer = ModelInferResponse::decode(answer).map_err(|error| format!("the answer's file: {error}"))?;
    let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let fixed = Fixed { answer: answer.clone() };
        tokio::spawn(async move {
            let service = service_fn(|request| fixed.clone().call_once(request));
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(1 << 20);
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// ModelInfer with one answer.
#[derive(Clone)]
struct Fixed {
    answer: ModelInferResponse,
}

impl Fixed {
    async fn call_once(
        self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<tonic::body::Body>, Infallible> {
        let codec = ProstCodec::<ModelInferResponse, ModelInferRequest>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(grpc.unary(self, request).await)
    }
}

impl UnaryService<ModelInferRequest> for Fixed {
    type Response = ModelInferResponse;
    type Future = Ready<Result<tonic::Response<ModelInferResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ModelInferRequest>) -> Self::Future {
        std::hint::black_box(request.into_inner());
        ready(Ok(tonic::Response::new(self.answer.clone())))
    }
}
