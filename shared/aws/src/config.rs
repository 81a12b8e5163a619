//! How AWS is reached: retries, timeouts and trust, in one place.

use crate::settings::ENVIRONMENT;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use std::time::Duration;

/// How often the SDK sends a request in all. The SDK's own default may change with its versions.
const ATTEMPTS_MAX: u32 = 3;
/// The first wait between two attempts.
const BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_millis(800);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt may take: the longest that DynamoDB and EventBridge answer in is far below.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take with all of its attempts: a third of the 15 seconds that a function
/// may take, so that a message that meets a dead endpoint fails by itself and says why.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The root certificates of AWS's endpoints. Reading these five instead of the system's hundreds
/// saves milliseconds of every cold start.
///
/// Source: "How to Prepare for AWS's Move to Its Own Certificate Authority", AWS security blog; the
/// certificates are those of Amazon Trust Services' repository.
const ROOTS: [&[u8]; 5] = [
    include_bytes!("../roots/Amazon_Root_CA_1.pem"),
    include_bytes!("../roots/Amazon_Root_CA_2.pem"),
    include_bytes!("../roots/Amazon_Root_CA_3.pem"),
    include_bytes!("../roots/Amazon_Root_CA_4.pem"),
    include_bytes!("../roots/Starfield_Services_Root_Certificate_Authority_-_G2.pem"),
];

/// The configuration of all clients, by the process's environment: Lambda has region and
/// credentials there, and so has whoever runs a function elsewhere. The SDK's chain of other places
/// would double the code that a cold start reads.
///
/// Source: "Using Lambda environment variables" (defined runtime environment variables), Lambda
/// developer guide. `AWS_ENDPOINT_URL` says where AWS is, if it is not AWS itself.
#[must_use]
pub fn config() -> SdkConfig {
    let retries = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(BACKOFF)
        .with_max_backoff(BACKOFF_MAX);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let endpoint = ENVIRONMENT.optional("AWS_ENDPOINT_URL");
    let region = ENVIRONMENT.optional("AWS_REGION").or(ENVIRONMENT.optional("AWS_DEFAULT_REGION"));
    let credentials = EnvironmentVariableCredentialsProvider::new();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(endpoint.as_deref()))
        .retry_config(retries)
        .timeout_config(timeouts)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(region.map(Region::new));
    match endpoint {
        Some(endpoint) => config.endpoint_url(endpoint).build(),
        None => config.build(),
    }
}

/// Whom to trust at `endpoint`: AWS's own roots where it is AWS, whom the system trusts elsewhere.
fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    let trust = match endpoint {
        Some(endpoint) if !endpoint.starts_with("https:") => return Builder::new().build_http(),
        Some(_) => TrustStore::default(),
        None => {
            ROOTS.iter().fold(TrustStore::empty(), |trust, pem| trust.with_pem_certificate(*pem))
        }
    };
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.expect("a trust store is all it takes");
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Building the client parses the roots, and panics at one that is none.
    #[test]
    fn the_roots_are_certificates() {
        let _ = http_client(None);
        for pem in ROOTS {
            assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
        }
    }
}
