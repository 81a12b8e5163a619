//! Requests signed with AWS credentials, as API Gateway asks for with IAM authorization.
//!
//! The rules are those of "AWS Signature Version 4 for API requests" in the IAM user guide; the
//! crate `aws-sigv4` knows them.

use crate::problem::Problem;
use async_trait::async_trait;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use eventplane_agent::{NoAnswer, Request, Signer, innermost};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// The name by which API Gateway's endpoints are signed for.
const SERVICE: &str = "execute-api";
/// How long before they expire credentials are fetched anew.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// What would be right when there are no credentials.
const HINT: &str = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sso \
                    login` renews those of a session";

/// The account that the environment and the profile name.
pub(crate) fn account() -> ConfigLoader {
    let tls = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(tls)
}

/// Signs with credentials of the default chain, in one region.
pub(crate) struct SigV4 {
    provider: SharedCredentialsProvider,
    region: String,
    /// The newest credentials: providers fetch them at every question.
    fetched: Mutex<Option<Credentials>>,
    now: fn() -> SystemTime,
}

impl SigV4 {
    /// With what the environment and the profile say: credentials, and the region unless the
    /// endpoint names it.
    pub(crate) async fn from_environment(region: Option<String>) -> Result<Self, Problem> {
        let config = account().load().await;
        let region = region.or_else(|| config.region().map(ToString::to_string));
        let region = region.ok_or_else(|| {
            let message = "no region to sign for: set AWS_REGION, or a profile that has one";
            Problem::Input(message.to_owned())
        })?;
        let none = || Problem::Input(format!("no AWS credentials to sign with: {HINT}"));
        let provider = config.credentials_provider().ok_or_else(none)?;
        let signer = SigV4 { provider, region, fetched: Mutex::default(), now };
        // Whoever has none hears it now, and not as an endpoint that cannot be reached.
        signer.credentials().await.map_err(|error| Problem::Input(error.to_string()))?;
        Ok(signer)
    }

    async fn credentials(&self) -> Result<Credentials, NoAnswer> {
        let mut fetched = self.fetched.lock().await;
        let soon = (self.now)() + RENEW_BEFORE;
        let is_good = |known: &Credentials| known.expiry().is_none_or(|expiry| expiry > soon);
        if let Some(known) = fetched.as_ref().filter(|known| is_good(known)) {
            return Ok(known.clone());
        }
        let new = self.provider.provide_credentials().await.map_err(|error| {
            let why = innermost(&error);
            // A chain names all of its members: those that were not asked for say nothing.
            let said = why.lines().map(str::trim).filter(|line| !line.contains("was not enabled"));
            let why = said.collect::<Vec<_>>().join(" ");
            let why = why.trim_end_matches(" Attempted:");
            NoAnswer::unsent(format!("no AWS credentials to sign with ({why}): {HINT}"))
        })?;
        *fetched = Some(new.clone());
        Ok(new)
    }
}

#[async_trait]
impl Signer for SigV4 {
    async fn sign(&self, request: &mut Request<()>, body: &[u8]) -> Result<(), NoAnswer> {
        let identity = self.credentials().await?.into();
        let failed =
            |error: &dyn std::error::Error| NoAnswer::unsent(format!("not signed: {error}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time((self.now)())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let instructions = {
            let headers = request.headers().iter();
            let headers = headers.filter_map(|(name, of)| Some((name.as_str(), of.to_str().ok()?)));
            let (method, uri) = (request.method().as_str(), request.uri().to_string());
            let signable = SignableRequest::new(method, uri, headers, SignableBody::Bytes(body))
                .map_err(|error| failed(&error))?;
            sign(signable, &params).map_err(|error| failed(&error))?.into_parts().0
        };
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

/// A signature names the moment of the wall clock at which it was made.
#[allow(clippy::disallowed_methods)]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use axum::Router;
    use axum::http::HeaderMap;
    use eventplane_agent::{Http, Method, Transport};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// 30 August 2015, 12:36:00 UTC: the moment of AWS's examples.
    fn then() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn of(provider: impl ProvideCredentials + 'static, now: fn() -> SystemTime) -> SigV4 {
        let provider = SharedCredentialsProvider::new(provider);
        SigV4 { provider, region: "us-east-1".to_owned(), fetched: Mutex::default(), now }
    }

    fn credentials(token: Option<&str>) -> Credentials {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test")
    }

    /// The signature of the header, worked out beside it by the four steps of the IAM user guide.
    #[tokio::test]
    async fn the_signature_is_that_of_the_guide() {
        let mut request = Request::builder()
            .method("GET")
            .uri("https://a1b2.execute-api.us-east-1.amazonaws.com/v1/hosts?limit=2")
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        of(credentials(None), then).sign(&mut request, b"").await.unwrap();
        assert_eq!(request.headers()["x-amz-date"], "20150830T123600Z");
        let right = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/execute-api/\
                     aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=a1a5c80a6de477fb89281db0e8416856107f329400069531c8408872715faae6";
        assert_eq!(request.headers()["authorization"], right);
    }

    #[tokio::test]
    async fn what_arrives_is_signed_for_the_host_it_was_sent_to() {
        let echo = async |headers: HeaderMap| {
            let text = |name: &str| headers.get(name).map(|of| of.to_str().unwrap().to_owned());
            let names = ["x-amz-date", "authorization", "x-amz-security-token", "host"];
            axum::Json(names.map(text))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tokio::spawn(axum::serve(listener, Router::new().fallback(echo)).into_future());
        let signer = Arc::new(of(credentials(Some("session")), now));
        let endpoint = format!("http://{address}/_aws/execute-api/a1b2/$default");
        let http = Http::new(&endpoint).unwrap().signed_by(signer);
        let answer = http.send(Method::POST, "/v1/instances", Some(b"{}".to_vec())).await.unwrap();
        let [date, authorization, token, host] = answer.json::<[String; 4]>().unwrap();
        let scope = format!("AKIDEXAMPLE/{}/us-east-1/execute-api/aws4_request", &date[..8]);
        assert!(authorization.contains(&format!("Credential={scope},")), "{authorization}");
        let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token";
        assert!(authorization.contains(signed), "{authorization}");
        assert_eq!((token.as_str(), host), ("session", address.to_string()));
        server.abort();
    }

    /// Hands out credentials that are good for ten minutes, and counts how often.
    #[derive(Debug)]
    struct Short(Arc<AtomicU64>);

    impl ProvideCredentials for Short {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            if asked == 2 {
                return future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("x")));
            }
            let mut good = credentials(None);
            *good.expiry_mut() = Some(clock() + Duration::from_secs(600));
            future::ProvideCredentials::ready(Ok(good))
        }
    }

    static CLOCK_S: AtomicU64 = AtomicU64::new(0);
    fn clock() -> SystemTime {
        then() + Duration::from_secs(CLOCK_S.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn credentials_are_fetched_once_and_again_before_they_expire() {
        let asked = Arc::new(AtomicU64::new(0));
        let signer = of(Short(asked.clone()), clock);
        for (at_s, right) in [(0, 1), (299, 1), (301, 2), (302, 2)] {
            CLOCK_S.store(at_s, Ordering::Relaxed);
            signer.credentials().await.unwrap();
            assert_eq!(asked.load(Ordering::Relaxed), right, "at {at_s} s");
        }
        CLOCK_S.store(700, Ordering::Relaxed);
        let error = signer.credentials().await.unwrap_err().to_string();
        assert!(error.contains("AWS_PROFILE"), "{error}");
    }
}
