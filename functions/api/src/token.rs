//! Client tokens: the same token gets the same reservation, also after a restart, and for a day
//! after its instances have ended.

use crate::error::Refusal;
use crate::launch::LaunchRequest;
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::Fault;
use eventplane_instances::token_key;
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Store, StoreFault, Write};
use sha2::{Digest, Sha256};

/// The longest token, in ASCII characters ("Ensuring idempotency in Amazon EC2 API requests", EC2
/// API reference).
const TOKEN_CHARS_MAX: usize = 64;

/// What a token was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) reservation_id: String,
    pub(crate) instances: Vec<InstanceId>,
    parameters: String,
}

/// Whether a text can be a token.
pub(crate) fn check(token: &str) -> Result<(), Refusal> {
    let good = (1..=TOKEN_CHARS_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    let right = "has 1 to 64 ASCII characters, none of them a space";
    let refused = || Refusal::value("client_token", format!("a client token {right}"));
    good.then_some(()).ok_or_else(refused)
}

/// What tells two requests apart: all parameters but the token itself and whether it is dry.
fn parameters(request: &LaunchRequest) -> String {
    let mut told = request.clone();
    (told.client_token, told.dry_run) = (None, None);
    let json = serde_json::to_vec(&told).expect("plain data");
    Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Answered {
    pub(crate) fn new(
        request: &LaunchRequest,
        reservation_id: &str,
        instances: Vec<InstanceId>,
    ) -> Self {
        let reservation_id = reservation_id.to_owned();
        Answered { reservation_id, instances, parameters: parameters(request) }
    }

    /// Writes the token, if it was never used.
    pub(crate) fn write(&self, tenant: &Tenant, token: &str, now: Millis) -> Write {
        let instances: Vec<&str> = self.instances.iter().map(InstanceId::as_str).collect();
        let item = Item::new()
            .with("reservation", self.reservation_id.as_str())
            .with("instances", instances.join(","))
            .with("parameters", self.parameters.as_str())
            .with("at", now.0);
        Write::put(token_key(tenant, token), item).when(Condition::ItemAbsent)
    }

    /// What the token was answered, if it was used; refused if it was for something else.
    pub(crate) async fn find(
        store: &dyn Store,
        tenant: &Tenant,
        token: &str,
        request: &LaunchRequest,
    ) -> Result<Option<Answered>, Refusal> {
        let Some(item) = store.get(&token_key(tenant, token)).await? else { return Ok(None) };
        let read = || {
            let instances = item.text("instances")?.split(',');
            Some(Answered {
                reservation_id: item.text("reservation")?.to_owned(),
                instances: instances.map(|id| InstanceId::parse(id).ok()).collect::<Option<_>>()?,
                parameters: item.text("parameters")?.to_owned(),
            })
        };
        let corrupt =
            || StoreFault::new(FaultKind::Corrupt, format!("token {token}: {:?}", item.keys()));
        let answered = read().ok_or_else(|| Fault::from(corrupt()))?;
        if answered.parameters != parameters(request) {
            let message = "the client token was used with other parameters";
            return Err(Refusal::invalid("IdempotentParameterMismatch", message)
                .status(axum::http::StatusCode::CONFLICT)
                .about("client_token"));
        }
        Ok(Some(answered))
    }
}
