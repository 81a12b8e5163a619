//! A host's key, and how its agent signs each request with it: HTTP Message Signatures in one fixed
//! profile, so that nothing of a request's form is left to choose, or to be misread.
//!
//! The signature, labelled `host`, covers method, path, query, the body's digest, and the session if
//! there is one. The path is the one that the router sees: what a gateway takes from its front is
//! not part of it.
//!
//! Sources: RFC 9421 ("HTTP Message Signatures"), RFC 9530 ("Digest Fields").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// How far a signature's moment may be from the reader's clock, in seconds, either way.
pub const SKEW_S_MAX: u64 = 300;
/// The header that names the session of the agent.
pub const SESSION: &str = "x-eventplane-session";
/// The header with the digest of the body.
pub const CONTENT_DIGEST: &str = "content-digest";
/// The header that says what is signed.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// The header with the signature.
pub const SIGNATURE: &str = "signature";

const LABEL: &str = "host=";

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'r> {
    /// The method, in capitals.
    pub method: &'r str,
    /// The path, as the router sees it.
    pub path: &'r str,
    /// What follows the path's `?`, if there is one.
    pub query: Option<&'r str>,
    /// The body; empty if there is none.
    pub body: &'r [u8],
    /// The agent's session, where the request has one.
    pub session: Option<&'r str>,
}

/// Why a request is not known to be of its host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unproven {
    /// It is not signed.
    #[error("the header `{0}` is missing: each request of a host's agent is signed")]
    Missing(&'static str),
    /// It is signed in another form.
    #[error("`signature-input` has to be `host={0}`")]
    Form(String),
    /// The body is not the one that was signed.
    #[error("`content-digest` is not that of the body: `{0}` would be")]
    Body(String),
    /// It was signed too long ago, or in the future.
    #[error(
        "signed at {created_s}, and here it is {now_s}: seconds of Unix time may differ by at most \
         300; set the host's clock"
    )]
    Skew {
        /// When it was signed, by the signer's clock.
        created_s: i64,
        /// The reader's time.
        now_s: i64,
    },
    /// Another key, or another request.
    #[error("the signature is not of this request by this host's key")]
    Wrong,
}

/// The key of a host. No output shows it, and it is wiped when it goes.
#[derive(Clone)]
pub struct HostKey(SigningKey);

impl HostKey {
    /// The key of these bytes, which have to come from a source of chance that is good for secrets.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        HostKey(SigningKey::from_bytes(bytes))
    }

    /// Its public half, 32 bytes in hex.
    #[must_use]
    pub fn public_hex(&self) -> String {
        crate::hex(self.0.verifying_key().as_bytes())
    }

    /// The headers, with their names in lower case, by which a request is known to be of `host` at
    /// `created_s`, in seconds of Unix time.
    #[must_use]
    pub fn sign(
        &self,
        request: &Signed<'_>,
        host: &str,
        created_s: i64,
    ) -> Vec<(&'static str, String)> {
        let digest = digest(request.body);
        let parameters = parameters(request, host, created_s);
        let signature = self.0.sign(base_of(request, &digest, &parameters).as_bytes());
        let mut headers = vec![
            (CONTENT_DIGEST, digest),
            (SIGNATURE_INPUT, format!("{LABEL}{parameters}")),
            (SIGNATURE, format!("{LABEL}:{}:", STANDARD.encode(signature.to_bytes()))),
        ];
        headers.extend(request.session.map(|session| (SESSION, session.to_owned())));
        headers
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({}, hidden)", self.public_hex())
    }
}

/// What a request shows of who sent it: whole and of the profile, and still to be checked.
#[derive(Debug)]
pub struct Presented {
    /// The host that it says it is of.
    pub host: String,
    created_s: i64,
    base: String,
    signature: Signature,
}

impl Presented {
    /// Reads what `request` shows; `header` finds a header's value by its name in lower case.
    ///
    /// # Errors
    /// [`Unproven`] when it shows nothing, or not in the form that is used here.
    pub fn read<'h>(
        request: &Signed<'_>,
        header: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<Presented, Unproven> {
        let found = |name: &'static str| header(name).ok_or(Unproven::Missing(name));
        let (said, input, signature) =
            (found(CONTENT_DIGEST)?, found(SIGNATURE_INPUT)?, found(SIGNATURE)?);
        let form = || Unproven::Form(parameters(request, "HOST", 0));
        let given = input.strip_prefix(LABEL).ok_or_else(form)?;
        let (created_s, host) = moment_and_host(given).ok_or_else(form)?;
        let parameters = parameters(request, host, created_s);
        if given != parameters {
            return Err(form());
        }
        let digest = digest(request.body);
        if said != digest {
            return Err(Unproven::Body(digest));
        }
        let bytes = || {
            let encoded = signature.strip_prefix(LABEL)?.strip_prefix(':')?.strip_suffix(':')?;
            <[u8; 64]>::try_from(STANDARD.decode(encoded).ok()?).ok()
        };
        let signature = Signature::from_bytes(&bytes().ok_or(Unproven::Wrong)?);
        let base = base_of(request, &digest, &parameters);
        Ok(Presented { host: host.to_owned(), created_s, base, signature })
    }

    /// Checks that it was signed about now, at `now_s` in seconds of Unix time.
    ///
    /// # Errors
    /// [`Unproven::Skew`] when it was not.
    pub fn check_moment(&self, now_s: i64) -> Result<(), Unproven> {
        let created_s = self.created_s;
        match created_s.abs_diff(now_s) <= SKEW_S_MAX {
            true => Ok(()),
            false => Err(Unproven::Skew { created_s, now_s }),
        }
    }

    /// Checks that it was signed by the key whose public half this is, 32 bytes in hex.
    ///
    /// # Errors
    /// [`Unproven::Wrong`] when it was not.
    pub fn check_key(&self, public_hex: &str) -> Result<(), Unproven> {
        let key = public_key(public_hex).ok_or(Unproven::Wrong)?;
        key.verify_strict(self.base.as_bytes(), &self.signature).map_err(|_| Unproven::Wrong)
    }
}

/// Verifies a request of `host` at once: what [`Presented`] does in steps, for a reader that has to
/// look the key up in between.
///
/// # Errors
/// [`Unproven`] when it is not of this host, by this key, about now.
pub fn verify<'h>(
    request: &Signed<'_>,
    header: impl Fn(&str) -> Option<&'h str>,
    (host, public_hex): (&str, &str),
    now_s: i64,
) -> Result<(), Unproven> {
    let presented = Presented::read(request, header)?;
    if presented.host != host {
        return Err(Unproven::Wrong);
    }
    presented.check_moment(now_s)?;
    presented.check_key(public_hex)
}

/// Whether this is the public half of a key that can sign: 64 hexadecimal digits in lower case.
#[must_use]
pub fn is_public_key(hex: &str) -> bool {
    public_key(hex).is_some_and(|key| !key.is_weak())
}

fn public_key(hex: &str) -> Option<VerifyingKey> {
    if hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let bytes: [u8; 32] = crate::unhex(hex)?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// The value of `Content-Digest` for a body.
fn digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

/// The value of `@signature-params`.
fn parameters(request: &Signed<'_>, host: &str, created_s: i64) -> String {
    let session = if request.session.is_some() { " \"x-eventplane-session\"" } else { "" };
    format!(
        "(\"@method\" \"@path\" \"@query\" \"content-digest\"{session});created={created_s};\
         keyid=\"{host}\";alg=\"ed25519\""
    )
}

fn moment_and_host(parameters: &str) -> Option<(i64, &str)> {
    let (created, rest) = parameters.split_once(";created=")?.1.split_once(";keyid=\"")?;
    Some((created.parse().ok()?, rest.split_once('"')?.0))
}

fn base_of(request: &Signed<'_>, digest: &str, parameters: &str) -> String {
    let query = format!("?{}", request.query.unwrap_or_default());
    let mut components = vec![
        ("@method", request.method),
        ("@path", request.path),
        ("@query", query.as_str()),
        (CONTENT_DIGEST, digest),
    ];
    components.extend(request.session.map(|session| (SESSION, session)));
    base(&components, parameters)
}

/// The signature base (RFC 9421, section 2.5).
fn base(components: &[(&str, &str)], parameters: &str) -> String {
    let line = |(name, value): &(&str, &str)| format!("\"{name}\": {value}\n");
    let lines: String = components.iter().map(line).collect();
    format!("{lines}\"@signature-params\": {parameters}")
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
