//! hyper: one connection over a pipe in memory, polled by hand.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::{BODY, FIELDS, Side};

/// Polls that one request may need.
const POLLS_MAX: usize = 8;

/// Both ends of the pipe.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
    body_bytes: u64,
}

/// The server's end.
struct ServerEnd(Rc<RefCell<Pipe>>);

impl Read for ServerEnd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        let left = &pipe.input[pipe.read..];
        if left.is_empty() {
            return Poll::Pending;
        }
        let taken = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..taken]);
        pipe.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl Write for ServerEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        for part in parts {
            pipe.output.extend_from_slice(part);
        }
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) struct HyperSide {
    pipe: Rc<RefCell<Pipe>>,
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>>>>,
    last: Vec<u8>,
}

impl HyperSide {
    pub(crate) fn new() -> HyperSide {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        let handler_pipe = Rc::clone(&pipe);
        let service = service_fn(move |request: Request<Incoming>| respond(request, Rc::clone(&handler_pipe)));
        // No timer: the header timeout, which needs one, is off.
        let connection =
            http1::Builder::new().header_read_timeout(None).serve_connection(ServerEnd(Rc::clone(&pipe)), service);
        HyperSide { pipe, connection: Box::pin(connection), last: Vec::new() }
    }
}

async fn respond(request: Request<Incoming>, pipe: Rc<RefCell<Pipe>>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        pipe.borrow_mut().body_bytes += body.to_bytes().len() as u64;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
    // Values that come from JavaScript are not static: they are checked and copied, on our side too.
    for (name, value) in FIELDS {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a name of ours");
        let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).expect("a value of ours");
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

impl Side for HyperSide {
    fn serve(&mut self, bytes: &[u8]) -> anyhow::Result<&[u8]> {
        {
            let mut pipe = self.pipe.borrow_mut();
            pipe.input.clear();
            pipe.input.extend_from_slice(bytes);
            pipe.read = 0;
            pipe.output.clear();
        }
        let mut context = Context::from_waker(Waker::noop());
        // hyper may give way between a head and its body, and wakes itself to be polled again.
        for _ in 0..POLLS_MAX {
            if let Poll::Ready(result) = self.connection.as_mut().poll(&mut context) {
                return Err(anyhow!("hyper ended the connection: {result:?}"));
            }
            let pipe = self.pipe.borrow();
            if pipe.read == pipe.input.len() && !pipe.output.is_empty() {
                break;
            }
        }
        let mut pipe = self.pipe.borrow_mut();
        ensure!(pipe.read == pipe.input.len() && !pipe.output.is_empty(), "no response after {POLLS_MAX} polls");
        std::mem::swap(&mut pipe.output, &mut self.last);
        drop(pipe);
        Ok(&self.last)
    }

    fn body_bytes(&self) -> u64 {
        self.pipe.borrow().body_bytes
    }
}
