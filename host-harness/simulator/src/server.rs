//! The simulator on a socket: HTTP/1.1 with kept-alive connections, delays and breakage acted out.
//!
//! A reset is a real one (RST, by a linger time of zero), a truncated body a real early end. Before a connection is
//! broken in the middle of a body, what was to be sent has had a moment to leave; whether the client has read it is
//! its affair. Bodies over 4 MiB are refused with 413. No TLS: clients are routed here by address.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;

use crate::message::{Outcome, Pace, Reply, Request};
use crate::refusals::http_date;
use crate::simulator::{InHand, Simulator};

/// The largest request body.
const LARGEST: usize = 4 << 20;
/// Given to the bytes before a break to leave.
const MOMENT: Duration = Duration::from_millis(20);

/// Serves on a listener until the future is dropped, which ends every connection.
pub async fn serve(simulator: Simulator, listener: TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(simulator.clone(), stream));
                }
                // Out of file handles, or gone before it was accepted: the others go on.
                Err(_) => tokio::time::sleep(MOMENT).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A simulator on a free port of loopback, for as long as this value lives.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Starts serving; needs a tokio runtime with I/O and time.
    pub async fn start(simulator: Simulator) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(simulator, listener)) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Such as `http://127.0.0.1:43210`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a connection is to do when its answer is sent.
#[derive(Default)]
struct Flags {
    /// It is dropped with a reset.
    reset: AtomicBool,
    /// It reads no further request.
    spent: AtomicBool,
    /// Requests so far.
    requests: AtomicU32,
}

/// Serves one connection to its end.
async fn connection(simulator: Simulator, stream: TcpStream) {
    // Small answers must not wait for acknowledgements. Without it only speed suffers.
    let _ = stream.set_nodelay(true);
    let flags = Arc::new(Flags::default());
    let wire = Wire { stream, flags: Arc::clone(&flags) };
    let service = service_fn(move |request| respond(simulator.clone(), Arc::clone(&flags), request));
    // Errors are the client going away or a break that was asked for.
    let _ = hyper::server::conn::http1::Builder::new()
        .keep_alive(true)
        .half_close(true)
        .serve_connection(TokioIo::new(wire), service)
        .await;
}

/// Answers one request, or fails to break the connection. The date of an answer is that of the simulated time: a server
/// whose clock is another than the one its records have would be a fault of its own.
async fn respond(
    simulator: Simulator,
    flags: Arc<Flags>,
    request: http::Request<Incoming>,
) -> Result<Response<Paced>, io::Error> {
    let mut response = answer(simulator.clone(), flags, request).await?;
    if let Ok(date) = HeaderValue::from_str(&http_date(simulator.now())) {
        response.headers_mut().entry(DATE).or_insert(date);
    }
    Ok(response)
}

/// The same without a date.
async fn answer(
    simulator: Simulator,
    flags: Arc<Flags>,
    request: http::Request<Incoming>,
) -> Result<Response<Paced>, io::Error> {
    let in_hand = simulator.in_hand();
    let requests = flags.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let (head, body) = request.into_parts();
    let too_large = || Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", None);
    if body.size_hint().lower() > LARGEST as u64 {
        return Ok(response(too_large(), None, in_hand, flags));
    }
    let body = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(response(too_large(), None, in_hand, flags));
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    if simulator.config().requests_per_connection.is_some_and(|most| requests >= most) {
        flags.spent.store(true, Ordering::Release);
    }
    let path_and_query = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let outcome = simulator.handle(Request {
        method: head.method.as_str().to_owned(),
        path_and_query,
        headers: head.headers,
        body,
    });
    match outcome {
        Outcome::Reply(reply) => {
            wait(reply.delay).await;
            Ok(response(reply, None, in_hand, flags))
        }
        Outcome::ResetBeforeHead { delay } => {
            wait(delay).await;
            flags.reset.store(true, Ordering::Release);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Outcome::CutShort { reply, sent, reset: hard } => {
            wait(reply.delay).await;
            Ok(response(reply, Some((sent, hard)), in_hand, flags))
        }
    }
}

async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The answer with its body as a script. The length is announced in full, whatever is sent of it.
fn response(reply: Reply, cut: Option<(usize, bool)>, in_hand: InHand, flags: Arc<Flags>) -> Response<Paced> {
    let body = reply.body;
    let mut steps = VecDeque::new();
    match (cut, reply.pace) {
        (Some((sent, hard)), _) => {
            steps.push_back(Step::Send(body.slice(..sent.min(body.len()))));
            steps.push_back(Step::Wait(MOMENT));
            steps.push_back(Step::Break { hard });
        }
        (None, Some(Pace::Pause { after, pause })) => {
            let after = after.min(body.len());
            steps.push_back(Step::Send(body.slice(..after)));
            steps.push_back(Step::Wait(pause));
            steps.push_back(Step::Send(body.slice(after..)));
        }
        (None, Some(Pace::Drip { bytes, pause })) => {
            let mut rest = body.clone();
            while !rest.is_empty() {
                steps.push_back(Step::Wait(pause));
                steps.push_back(Step::Send(rest.split_to(bytes.clamp(1, rest.len()))));
            }
        }
        (None, None) => steps.push_back(Step::Send(body.clone())),
    }
    let whole = cut.is_none() && reply.pace.is_none();
    let paced = Paced { steps, sleep: None, exact: whole.then_some(body.len() as u64), flags, _in_hand: in_hand };
    let mut response = Response::new(paced);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    response
}

/// What a body does next.
enum Step {
    Send(Bytes),
    Wait(Duration),
    Break { hard: bool },
}

/// A body that follows a script.
struct Paced {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    exact: Option<u64>,
    flags: Arc<Flags>,
    /// The request counts as in hand until its body is sent.
    _in_hand: InHand,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                match sleep.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.sleep = None,
                }
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(bytes)) if bytes.is_empty() => {}
                Some(Step::Send(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Wait(pause)) => self.sleep = Some(Box::pin(tokio::time::sleep(pause))),
                Some(Step::Break { hard }) => {
                    self.flags.reset.store(hard, Ordering::Release);
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exact == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A connection that does what its flags say.
struct Wire {
    stream: TcpStream,
    flags: Arc<Flags>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.flags.reset.load(Ordering::Acquire) {
            // If this fails the client sees an end in good order, which is a break all the same.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flags.spent.load(Ordering::Acquire) {
            // Nothing read is the end of the stream; the answer under way is still sent.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flags.reset.load(Ordering::Acquire) {
            // An orderly end first would make the reset invisible.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
