//! How a host reaches the control plane: by HTTP, or straight into the router of its process.

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;
use tower::ServiceExt;

pub use axum::http::Method;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without a request is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body: JSON.
    pub body: Bytes,
}

impl Answer {
    /// Whether the request was done.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a value.
    ///
    /// # Errors
    /// When it is no JSON of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// No answer came.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// A way to the control plane.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request, with a JSON body if there is one, and waits for its answer.
    ///
    /// # Errors
    /// [`NoAnswer`] when none came; the request may have been done.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer>;
}

async fn read<B>(response: Response<B>) -> Result<Answer, NoAnswer>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| NoAnswer(format!("the answer broke off: {error}")))?;
    Ok(Answer { status, body: body.to_bytes() })
}

fn request<B>(method: Method, uri: &str, body: B) -> Result<Request<B>, NoAnswer> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| NoAnswer(format!("{uri} is no address to send to: {error}")))
}

/// Over HTTP/1.1, with connections that are kept.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
}

impl Http {
    /// To the control plane at `endpoint`, such as `http://127.0.0.1:7878`.
    ///
    /// # Errors
    /// When that is not `http://`, a host and perhaps a port.
    pub fn new(endpoint: &str) -> Result<Self, NoAnswer> {
        let endpoint = endpoint.trim_end_matches('/');
        let right = "an endpoint is http://HOST:PORT, such as http://127.0.0.1:7878";
        let uri: axum::http::Uri =
            endpoint.parse().map_err(|_| NoAnswer(format!("`{endpoint}`: {right}")))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.path() != "/" {
            return Err(NoAnswer(format!("`{endpoint}`: {right}")));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        Ok(Http { client, endpoint: endpoint.to_owned() })
    }

    /// Where it sends to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

#[async_trait]
impl Transport for Http {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer> {
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request(method, &format!("{}{path}", self.endpoint), body)?;
        let response = self.client.request(request).await.map_err(|error| {
            // What lies at the bottom says what is wrong; the layers above it name themselves.
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            NoAnswer(cause.to_string())
        })?;
        read(response).await
    }
}

/// Into a router of the same process, without a socket.
#[derive(Clone)]
pub struct InProcess(pub Router);

#[async_trait]
impl Transport for InProcess {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer> {
        let request = request(method, path, Body::from(body.unwrap_or_default()))?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        read(response).await
    }
}
