//! An S3-compatible server in this process, over HTTP on loopback: it checks signatures (SigV4), keeps objects as files in a
//! folder of its own, says which requests came, and can be away for a while.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use api::S3Place;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const BUCKET: &str = "selvage-test";
pub(crate) const KEY_ID: &str = "AKIDSELVAGETEST";
pub(crate) const SECRET: &str = "a-secret-that-nobody-may-see";

/// Method and path of each request, in the order in which they came.
type Requests = Arc<Mutex<Vec<String>>>;

pub(crate) struct S3Server {
    root: TempDir,
    address: SocketAddr,
    service: S3Service,
    requests: Requests,
    running: Option<JoinHandle<()>>,
}

impl S3Server {
    /// With one bucket, which is empty.
    pub(crate) async fn start() -> S3Server {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (service, requests) = (builder.build(), Requests::default());
        let running = Some(tokio::spawn(serve(listener, service.clone(), Arc::clone(&requests))));
        S3Server { root, address, service, requests, running }
    }

    /// Nobody listens any more, and all connections are gone.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.abort();
        let _ = running.await;
    }

    /// Is back at the same address, with the same objects.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.running = Some(tokio::spawn(serve(listener, self.service.clone(), Arc::clone(&self.requests))));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A prefix of the bucket, with these credentials.
    pub(crate) fn place_with(&self, url: &str, key_id: &str, secret: &str) -> S3Place {
        let variables = [("AWS_ACCESS_KEY_ID", key_id), ("AWS_SECRET_ACCESS_KEY", secret)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        S3Place::parse(url).unwrap().with_endpoint(&self.url()).unwrap().with_variables(variables)
    }

    /// A prefix of the bucket.
    pub(crate) fn place(&self, prefix: &str) -> S3Place {
        self.place_with(&format!("s3://{BUCKET}/{prefix}"), KEY_ID, SECRET)
    }

    /// The file that an object is.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }

    /// Puts an object there without asking the server, stored at this age.
    pub(crate) fn write(&self, key: &str, bytes: &[u8], age: std::time::Duration) {
        let path = self.file(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let stored = std::time::SystemTime::now() - age;
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(stored).unwrap();
    }

    /// How many requests of this method and object came.
    pub(crate) fn count(&self, method: &str, key: &str) -> usize {
        let wanted = format!("{method} /{BUCKET}/{key}");
        self.requests.lock().unwrap().iter().filter(|request| **request == wanted).count()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// Its connections end with it.
async fn serve(listener: TcpListener, service: S3Service, requests: Requests) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, requests) = (service.clone(), Arc::clone(&requests));
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                requests.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
                Service::call(&service, request)
            });
            // A client that goes away in the middle is no matter of the server's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
