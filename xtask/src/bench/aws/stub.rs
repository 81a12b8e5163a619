//! AWS as a server on loopback that answers at once: no item is there, every write is done. Over
//! TLS, with a certificate made for the occasion.

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;

/// The server.
pub(super) struct Aws {
    pub(super) endpoint: String,
    /// The file with the only certificate to trust.
    pub(super) roots: PathBuf,
    requests: Arc<AtomicU64>,
}

impl Aws {
    /// Starts it; its certificate goes into a file of `dir`.
    pub(super) async fn start(dir: &Path) -> Result<Aws> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let roots = dir.join("roots.pem");
        std::fs::write(&roots, cert.pem())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .context("its own certificate")?;
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let port = tcp.local_addr()?.port();
        let requests = Arc::new(AtomicU64::default());
        let counted = requests.clone();
        let answer = move |headers: HeaderMap| {
            counted.fetch_add(1, Relaxed);
            let asked = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
            let body = answer(asked.unwrap_or_default());
            async move { ([(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response() }
        };
        let listener = Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) };
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, Router::new().fallback(answer)).await {
                eprintln!("the stub of AWS ended: {error}");
            }
        });
        Ok(Aws { endpoint: format!("https://127.0.0.1:{port}"), roots, requests })
    }

    /// How many requests there were so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

/// The least that the SDK takes for an answer.
fn answer(target: &str) -> &'static str {
    match target.rsplit('.').next().unwrap_or_default() {
        "PutEvents" => r#"{"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]}"#,
        "BatchGetItem" => r#"{"Responses": {}, "UnprocessedKeys": {}}"#,
        "Query" => r#"{"Items": [], "Count": 0, "ScannedCount": 0}"#,
        "Encrypt" => r#"{"CiphertextBlob": "AAAA", "KeyId": "k"}"#,
        _ => "{}",
    }
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            // One function at a time: no handshake holds up another.
            match self.acceptor.accept(stream).await {
                Ok(stream) => return (stream, address),
                Err(error) => eprintln!("no TLS: {error}"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
