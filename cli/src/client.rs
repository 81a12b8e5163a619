//! The control plane, as the verbs of the command see it.

use crate::args::Reach;
use crate::problem::{Problem, Refusal};
use crate::reach::{self, Proof};
use eventplane_agent::{Http, Method, NoAnswer, Transport};
use serde_json::Value;
use std::time::Duration;

/// How long an answer may take beyond the wait that was asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest wait that is asked for in one request, in seconds.
const WAIT_S_MAX: u64 = 20;
/// How soon a plane that does not wait is asked again: at first, and at last.
const PAUSE_MS: u64 = 50;
const PAUSE_MS_MAX: u64 = 1_000;

/// A client of one endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    http: Http,
    proof: Proof,
}

impl Client {
    /// A client of whom nobody asks who they are.
    pub(crate) fn new(endpoint: &str) -> Result<Self, Problem> {
        let http = Http::new(endpoint).map_err(|error| Problem::Input(error.to_string()))?;
        Ok(Client { http, proof: Proof::None })
    }

    pub(crate) async fn reach(reach: &Reach) -> Result<Self, Problem> {
        let (http, proof) = reach::http(reach).await?;
        Ok(Client { http, proof })
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.http.endpoint()
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Problem> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Problem> {
        let body = body.map(|body| body.to_string().into_bytes());
        let changes = method != Method::GET;
        let sent = self.http.send(method, path, body);
        let answer = tokio::time::timeout(PATIENCE + Duration::from_secs(WAIT_S_MAX), sent).await;
        let lost = |_| Err(NoAnswer::lost("no answer in time".to_owned()));
        let answer = answer.unwrap_or_else(lost).map_err(|NoAnswer { why, may_be_done }| {
            let endpoint = self.endpoint().to_owned();
            match changes && may_be_done {
                true => Problem::AnswerLost { endpoint, why },
                false => Problem::Unreachable { endpoint, why },
            }
        })?;
        if !answer.is_success() {
            return Err(Problem::Refused(Refusal::read(answer.status, &answer.body, self.proof)));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        answer.json().map_err(|error| {
            Problem::Failed(format!("{} answered with no JSON ({error})", self.endpoint()))
        })
    }

    /// All pages of a list: the items under `name`, each page's `next` leading to the next.
    pub(crate) async fn list(&self, path: &str, name: &str) -> Result<Vec<Value>, Problem> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = match &next {
                None => self.get(path).await?,
                Some(token) => self.get(&format!("{path}{join}next={}", encode(token))).await?,
            };
            all.extend(page[name].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(token) if !token.is_empty() => next = Some(token.to_owned()),
                _ => return Ok(all),
            }
        }
    }

    /// The instance, once it is in the state `until` or one that cannot lead there, or when
    /// `patience` has passed.
    pub(crate) async fn instance_until(
        &self,
        id: &str,
        until: &str,
        patience: Duration,
    ) -> Result<Value, Problem> {
        let end = tokio::time::Instant::now() + patience;
        let mut pause = Duration::ZERO;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let wait_s = left.as_secs().min(WAIT_S_MAX);
            let path = format!("/v1/instances/{id}?until={until}&wait={wait_s}");
            match self.get(&path).await {
                Ok(instance) => {
                    let state = instance["state"].as_str().unwrap_or_default();
                    if state == until || is_over(state, until) || left.is_zero() {
                        return Ok(instance);
                    }
                }
                // What was launched goes on while a gateway is busy.
                Err(Problem::Refused(busy)) if busy.is_for_now() && !left.is_zero() => {}
                Err(problem) => return Err(problem),
            }
            // A plane that does not wait is asked again, gently.
            pause = longer(pause);
            tokio::time::sleep(pause.min(left)).await;
        }
    }
}

/// Whether nothing leads from `state` to `wanted` by itself. A start that has failed is back at
/// stopped; from the moment on that one is asked for, the API says pending.
pub(crate) fn is_over(state: &str, wanted: &str) -> bool {
    match state {
        "terminated" => wanted != "terminated",
        "stopped" => wanted == "running",
        _ => false,
    }
}

/// The pause after this one: half as long again.
fn longer(pause: Duration) -> Duration {
    let next = pause + pause / 2;
    next.clamp(Duration::from_millis(PAUSE_MS), Duration::from_millis(PAUSE_MS_MAX))
}

/// A text as part of a query string.
pub(crate) fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_went_back_to_stopped_is_over_and_so_is_what_is_terminated() {
        let over = [("terminated", "running"), ("terminated", "stopped"), ("stopped", "running")];
        for state in ["pending", "running", "stopping", "stopped", "shutting-down", "terminated"] {
            for wanted in ["running", "stopped", "terminated"] {
                let right = over.contains(&(state, wanted));
                assert_eq!(is_over(state, wanted), right, "{state}, {wanted}");
            }
        }
    }

    #[test]
    fn pauses_grow_from_50_ms_to_a_second() {
        let mut pauses = vec![];
        for _ in 0..10 {
            pauses.push(longer(pauses.last().copied().unwrap_or_default()));
        }
        let ms: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [50, 75, 112, 168, 253, 379, 569, 854, 1_000, 1_000]);
    }
}
