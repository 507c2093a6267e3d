//! An S3 API server, and a way to it that can be cut.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};

use crate::support::eventually;

pub const BUCKET: &str = "log";

/// moto's server, killed when it is dropped. It keeps everything in memory.
pub struct Moto {
    child: Child,
    pub address: SocketAddr,
}

impl Moto {
    pub async fn start(python: &Path, address: SocketAddr) -> Self {
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, address };
        eventually("moto listens and has a bucket", async || moto.make_bucket().map_err(|cause| cause.to_string()))
            .await;
        moto
    }

    fn make_bucket(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "PUT /{BUCKET} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.address
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(answer)) }
    }

    /// How many objects there are.
    pub async fn count(&self) -> usize {
        let store = client(&format!("http://{}", self.address));
        let listed: Vec<_> = object_store::ObjectStore::list(&store, None).try_collect().await.unwrap();
        listed.len()
    }

    /// Every object with its bytes.
    pub async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let store = client(&format!("http://{}", self.address));
        let mut objects = BTreeMap::new();
        let listed: Vec<_> = object_store::ObjectStore::list(&store, None).try_collect().await.unwrap();
        for object in listed {
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            objects.insert(object.location.to_string(), bytes.to_vec());
        }
        objects
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn client(endpoint: &str) -> AmazonS3 {
    _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_endpoint(endpoint).with_region("us-east-1");
    builder.with_access_key_id("id").with_secret_access_key("secret").with_allow_http(true).build().unwrap()
}

/// Passes connections on to an address, and can cut the server off in the middle of an upload.
pub struct Relay {
    pub url: String,
    pub connections: Arc<AtomicUsize>,
    /// Until then connections are closed at once.
    pub is_open: Arc<AtomicBool>,
    /// Whom to kill once so many more bytes were passed on to it.
    pub victim: Arc<Mutex<Option<(usize, Moto)>>>,
}

impl Relay {
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (connections, victim) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let is_open = Arc::new(AtomicBool::new(false));
        let (counted, shared, open) = (connections.clone(), victim.clone(), is_open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Relaxed);
                let (stream, victim) = (stream.unwrap(), shared.clone());
                if open.load(Relaxed) {
                    std::thread::spawn(move || pass_on(&stream, target, &victim));
                }
            }
        });
        Self { url, connections, is_open, victim }
    }
}

fn pass_on(client: &TcpStream, target: SocketAddr, victim: &Mutex<Option<(usize, Moto)>>) {
    let Ok(server) = TcpStream::connect(target) else { return };
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        _ = std::io::copy(&mut from_server, &mut to_client);
        _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut client, mut server, mut buffer) = (client, &server, vec![0; 16 << 10]);
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
        let mut victim = victim.lock().unwrap();
        if let Some((left, _)) = &mut *victim {
            *left = left.saturating_sub(read);
            if *left == 0 {
                // Killed here, for it is dropped.
                *victim = None;
                break;
            }
        }
    }
    _ = server.shutdown(Shutdown::Both);
    _ = client.shutdown(Shutdown::Both);
    back.join().unwrap();
}
