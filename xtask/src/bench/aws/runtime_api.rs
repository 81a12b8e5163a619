//! Lambda's runtime API, as far as one invocation needs it.
//!
//! Source: "Using the Lambda runtime API for custom runtimes", Lambda developer guide.

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::routing::{get, post};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a function may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a function did, and when.
pub(super) enum Did {
    /// It asked for an event.
    Polled(Instant),
    /// It answered the event.
    Answered(Instant),
    /// It says that it could not handle the event.
    Failed(String),
}

struct Shared {
    did: mpsc::UnboundedSender<Did>,
    event: tokio::sync::Mutex<Option<String>>,
}

/// A runtime API that hands out one event, or none.
pub(super) struct RuntimeApi {
    pub(super) address: SocketAddr,
    did: mpsc::UnboundedReceiver<Did>,
    server: JoinHandle<()>,
}

impl RuntimeApi {
    pub(super) async fn start(event: Option<String>) -> Result<RuntimeApi> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, did) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { did: sender, event: tokio::sync::Mutex::new(event) });
        let invocation = "/2018-06-01/runtime/invocation";
        let router = Router::new()
            .route(&format!("{invocation}/next"), get(next))
            .route(&format!("{invocation}/{{id}}/response"), post(answered))
            .route(&format!("{invocation}/{{id}}/error"), post(failed))
            .with_state(shared);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the runtime API ended: {error}");
            }
        });
        Ok(RuntimeApi { address, did, server })
    }

    /// What the function did next.
    pub(super) async fn next(&mut self) -> Result<Did> {
        let next = tokio::time::timeout(PATIENCE, self.did.recv()).await;
        next.context("the function did nothing")?.context("the runtime API has ended")
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> ([(HeaderName, String); 3], String) {
    let now = Instant::now();
    let _ = shared.did.send(Did::Polled(now));
    let Some(event) = shared.event.lock().await.take() else {
        // There is no other event.
        std::future::pending::<()>().await;
        unreachable!("nothing comes after that")
    };
    let header =
        |name: &'static str, value: &str| (HeaderName::from_static(name), value.to_owned());
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:bench";
    let headers = [
        header("lambda-runtime-aws-request-id", "00000000-0000-0000-0000-000000000001"),
        header("lambda-runtime-deadline-ms", "4102444800000"),
        header("lambda-runtime-invoked-function-arn", arn),
    ];
    (headers, event)
}

async fn answered(State(shared): State<Arc<Shared>>) -> StatusCode {
    let _ = shared.did.send(Did::Answered(Instant::now()));
    StatusCode::ACCEPTED
}

async fn failed(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    let _ = shared.did.send(Did::Failed(body));
    StatusCode::ACCEPTED
}
