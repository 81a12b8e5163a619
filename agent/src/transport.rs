//! How a host reaches the control plane: by HTTP, or straight into the router of its process.

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tower::ServiceExt;

pub use axum::http::{Method, Request};

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
#[error("{why}")]
pub struct NoAnswer {
    /// Why not.
    pub why: String,
    /// Whether the request may have been done: it was sent, and its answer is lost.
    pub may_be_done: bool,
}

impl NoAnswer {
    /// The request was not sent.
    #[must_use]
    pub fn unsent(why: String) -> Self {
        NoAnswer { why, may_be_done: false }
    }

    /// The request was sent, and no answer came of it.
    #[must_use]
    pub fn lost(why: String) -> Self {
        NoAnswer { why, may_be_done: true }
    }
}

/// What lies at the bottom of an error: that says what is wrong, the layers above it name themselves.
#[must_use]
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

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
    let body = body.map_err(|error| NoAnswer::lost(format!("the answer broke off: {error}")))?;
    Ok(Answer { status, body: body.to_bytes() })
}

fn request<B>(method: Method, uri: &str, body: B) -> Result<Request<B>, NoAnswer> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| NoAnswer::unsent(format!("{uri} is no address to send to: {error}")))
}

/// Says who sends a request: adds to its headers what proves it.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Adds the headers; `body` is what the request will carry.
    ///
    /// # Errors
    /// When there is nothing to prove it with.
    async fn sign(&self, request: &mut Request<()>, body: &[u8]) -> Result<(), NoAnswer>;
}

type Plain = Client<HttpConnector, Full<Bytes>>;

/// The connections: most planes are reached without TLS, and need no certificates.
#[derive(Clone)]
enum Wire {
    Plain(Plain),
    #[cfg(feature = "https")]
    Tls(Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Wire {
    fn of(scheme: &str) -> Result<Wire, String> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(IDLE_TIMEOUT);
        match scheme {
            "http" => Ok(Wire::Plain(client.build(connector))),
            #[cfg(feature = "https")]
            "https" => {
                connector.enforce_http(false);
                let tls = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(|error| format!("no certificates to trust are found: {error}"))?
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Ok(Wire::Tls(client.build(tls)))
            }
            #[cfg(not(feature = "https"))]
            "https" => Err("this build speaks no TLS; `cargo install --path cli --features aws` \
                            makes one that does"
                .to_owned()),
            other => Err(format!("{other}:// is not spoken here; {ENDPOINT}")),
        }
    }

    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Wire::Plain(client) => client.request(request),
            #[cfg(feature = "https")]
            Wire::Tls(client) => client.request(request),
        }
    }
}

/// What an endpoint looks like.
const ENDPOINT: &str = "an endpoint is http://HOST:PORT or https://HOST, perhaps with a path, such \
                        as http://127.0.0.1:7878";

/// Over HTTP/1.1, with connections that are kept.
#[derive(Clone)]
pub struct Http {
    wire: Wire,
    endpoint: String,
    signer: Option<Arc<dyn Signer>>,
}

impl Http {
    /// To the control plane at `endpoint`, such as `http://127.0.0.1:7878`; what is sent goes to
    /// paths below that of the endpoint, if it has one.
    ///
    /// # Errors
    /// When that is no endpoint, or one that this build cannot reach.
    pub fn new(endpoint: &str) -> Result<Self, NoAnswer> {
        let endpoint = endpoint.trim_end_matches('/');
        let told = |why: &str| NoAnswer::unsent(format!("`{endpoint}`: {why}"));
        let uri: Uri = endpoint.parse().map_err(|_| told(ENDPOINT))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(told(ENDPOINT));
        };
        // The parser drops a fragment without a word; neither it nor a query can be a prefix.
        let has_more = uri.query().is_some() || endpoint.contains('#');
        let names_a_user = uri.authority().is_some_and(|all| all.as_str().contains('@'));
        if host.is_empty() || has_more || names_a_user {
            return Err(told(ENDPOINT));
        }
        let wire = Wire::of(scheme).map_err(|why| told(&why))?;
        Ok(Http { wire, endpoint: endpoint.to_owned(), signer: None })
    }

    /// The same, with every request signed.
    #[must_use]
    pub fn signed_by(self, signer: Arc<dyn Signer>) -> Self {
        Http { signer: Some(signer), ..self }
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
        let body = Bytes::from(body.unwrap_or_default());
        let mut request = request(method, &format!("{}{path}", self.endpoint), ())?;
        if let Some(signer) = &self.signer {
            signer.sign(&mut request, &body).await?;
        }
        let sent = self.wire.send(request.map(|()| Full::new(body)));
        let response = sent.await.map_err(|error| NoAnswer {
            why: innermost(&error),
            may_be_done: !error.is_connect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_have_a_path_and_nothing_else_behind_its_host() {
        let cases = [
            ("http://127.0.0.1:7878", true),
            ("http://127.0.0.1:7878/", true),
            ("http://[::1]:7878", true),
            ("http://127.0.0.1:4566/_aws/execute-api/a1b2/$default", true),
            ("https://a1b2.execute-api.us-east-1.amazonaws.com", cfg!(feature = "https")),
            ("127.0.0.1:7878", false),
            ("plane", false),
            ("", false),
            ("ftp://somewhere", false),
            ("http://", false),
            ("http://a b", false),
            ("http://plane?x=1", false),
            ("http://plane/prod#x", false),
            ("http://me:secret@plane", false),
        ];
        for (endpoint, right) in cases {
            let http = Http::new(endpoint);
            assert_eq!(http.is_ok(), right, "{endpoint}: {:?}", http.err());
        }
        if !cfg!(feature = "https") {
            let error = Http::new("https://plane").err().unwrap();
            assert!(error.to_string().contains("cargo install --path cli --features aws"));
        }
    }

    struct Named;

    #[async_trait]
    impl Signer for Named {
        async fn sign(&self, request: &mut Request<()>, body: &[u8]) -> Result<(), NoAnswer> {
            let told = format!("{} {} {}", request.method(), request.uri(), body.len());
            let value = told.parse().map_err(|_| NoAnswer::unsent("no header".to_owned()))?;
            request.headers_mut().insert("x-told", value);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_sent_goes_below_the_path_of_the_endpoint_and_is_signed() {
        let echo = async |uri: Uri, headers: axum::http::HeaderMap| {
            let told = headers.get("x-told").map_or("-", |told| told.to_str().unwrap());
            axum::Json(serde_json::json!([uri.to_string(), told]))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = axum::serve(listener, Router::new().fallback(echo)).into_future();
        let server = tokio::spawn(serve);
        let endpoint = format!("http://{address}/prod/");
        let http = Http::new(&endpoint).unwrap();
        let path = "/v1/hosts?limit=2";
        let answer = http.send(Method::GET, path, None).await.unwrap();
        assert_eq!(answer.json::<[String; 2]>().unwrap(), ["/prod/v1/hosts?limit=2", "-"]);
        let http = http.signed_by(Arc::new(Named));
        let answer = http.send(Method::POST, path, Some(vec![b'{', b'}'])).await.unwrap();
        let signed = format!("POST http://{address}/prod/v1/hosts?limit=2 2");
        assert_eq!(answer.json::<[String; 2]>().unwrap()[1], signed);
        server.abort();
    }
}
