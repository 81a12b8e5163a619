//! How a control plane is reached: where it is, and what says who is asking.

use crate::args::Reach;
use crate::problem::Problem;
use axum::http::{HeaderValue, Uri, header};
use eventplane_agent::{Http, NoAnswer, Request, Signer};
use std::net::IpAddr;
use std::sync::Arc;

/// How to get the build that does what this one cannot.
#[cfg(not(feature = "aws"))]
pub(crate) const WITH_AWS: &str =
    "`cargo install --path cli --features aws` makes a build that can";

/// What says who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing.
    None,
    /// A bearer token.
    Token,
    /// A signature with AWS credentials.
    Signature,
}

/// A bearer token in every request.
struct Bearer(HeaderValue);

#[async_trait::async_trait]
impl Signer for Bearer {
    async fn sign(&self, request: &mut Request<()>, _body: &[u8]) -> Result<(), NoAnswer> {
        request.headers_mut().insert(header::AUTHORIZATION, self.0.clone());
        Ok(())
    }
}

/// The way to the endpoint, with what it asks for.
pub(crate) async fn http(reach: &Reach) -> Result<(Http, Proof), Problem> {
    let input = |error: NoAnswer| Problem::Input(error.to_string());
    let http = Http::new(&reach.endpoint).map_err(input)?;
    let uri: Uri = http.endpoint().parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    let token = reach.token.as_ref().map(|token| token.0.trim()).filter(|token| !token.is_empty());
    if let Some(token) = token {
        if reach.sign {
            let message = "a request carries a token or a signature: give --token or --sign";
            return Err(Problem::Input(message.to_owned()));
        }
        if uri.scheme_str() != Some("https") && !is_loopback(host) {
            let message = format!("a token goes to https://, or to this machine; not to {host}");
            return Err(Problem::Input(message));
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| Problem::Input("the token is none".to_owned()))?;
        value.set_sensitive(true);
        return Ok((http.signed_by(Arc::new(Bearer(value))), Proof::Token));
    }
    let region = region_of(host);
    if !reach.sign && region.is_none() {
        return Ok((http, Proof::None));
    }
    let signer = signer(region.map(str::to_owned)).await?;
    Ok((http.signed_by(signer), Proof::Signature))
}

#[cfg(feature = "aws")]
async fn signer(region: Option<String>) -> Result<Arc<dyn Signer>, Problem> {
    Ok(Arc::new(crate::sign::SigV4::from_environment(region).await?))
}

#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async, reason = "as the other one")]
async fn signer(_region: Option<String>) -> Result<Arc<dyn Signer>, Problem> {
    Err(Problem::Input(format!("this build signs no requests; {WITH_AWS}")))
}

/// The region in a host of API Gateway's own: `API.execute-api.REGION.amazonaws.com`, or `.com.cn`.
fn region_of(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let (api, region) = host.split_once(".execute-api.")?;
    let is_one = |name: &str| !name.is_empty() && !name.contains('.');
    (is_one(api) && is_one(region)).then_some(region)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_api_gateway_names_its_region() {
        let cases = [
            ("a1b2.execute-api.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("a1b2.execute-api.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("a1b2.execute-api.us-east-1.amazonaws.com.", Some("us-east-1")),
            ("execute-api.us-east-1.amazonaws.com", None),
            ("a1b2.execute-api.us-east-1.amazonaws.com.evil.org", None),
            ("a1b2.execute-api.evil.org.amazonaws.com", None),
            ("a1b2.execute-api.localhost", None),
            ("127.0.0.1", None),
        ];
        for (host, right) in cases {
            assert_eq!(region_of(host), right, "{host}");
        }
    }

    #[test]
    fn a_token_in_clear_stays_on_this_machine() {
        for host in ["localhost", "a.localhost", "127.0.0.1", "127.8.0.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "plane.example.org", "localhost.org", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
