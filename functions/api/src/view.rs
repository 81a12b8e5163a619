//! An instance as answers show it: composed from its record, what its user wants, and the steps'
//! receipts, all read at once.

use crate::answer::rfc3339;
use crate::error::Refusal;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{InstanceId, Reason, State, Step, Tenant};
use eventplane_engine::Receipt;
use eventplane_handoff::Stage;
use eventplane_instances::{Record, Request, record_key, request_key, shown_state};
use eventplane_store::{Item, Key, Store};
use serde_json::{Map, Value, json};

/// All that is recorded of one instance.
pub(crate) struct Whole {
    pub(crate) record: Record,
    pub(crate) request: Option<Request>,
    /// The receipts of the steps that hold things, in this order.
    pub(crate) receipts: [Option<Receipt>; 4],
    pub(crate) handoff: Option<eventplane_handoff::Receipt>,
}

/// The steps of [`Whole::receipts`].
pub(crate) const HOLDERS: [Step; 4] =
    [Step::Capacity, Step::Network, Step::Storage, Step::Security];

fn keys(tenant: &Tenant, id: &InstanceId) -> [Key; 7] {
    [
        record_key(tenant, id),
        request_key(tenant, id),
        eventplane_capacity::receipt_key(tenant, id),
        eventplane_network::receipt_key(tenant, id),
        eventplane_storage::receipt_key(tenant, id),
        eventplane_security::receipt_key(tenant, id),
        eventplane_handoff::receipt_key(tenant, id),
    ]
}

/// Reads these instances in one batch; those without a record are `None`.
pub(crate) async fn read_all(
    store: &dyn Store,
    tenant: &Tenant,
    ids: &[InstanceId],
) -> Result<Vec<Option<Whole>>, Refusal> {
    let keys: Vec<Key> = ids.iter().flat_map(|id| keys(tenant, id)).collect();
    let items = store.batch_get(&keys).await?;
    items.chunks(7).map(Whole::of).collect()
}

/// Reads one instance.
pub(crate) async fn read(
    store: &dyn Store,
    tenant: &Tenant,
    id: &InstanceId,
) -> Result<Whole, Refusal> {
    let mut found = read_all(store, tenant, std::slice::from_ref(id)).await?;
    found.pop().flatten().ok_or_else(|| no_instance(id))
}

/// The refusal when there is no such instance.
pub(crate) fn no_instance(id: &InstanceId) -> Refusal {
    let message = format!("there is no instance {id}");
    Refusal::not_found("InvalidInstanceID.NotFound", message).about("instance_id")
}

/// The id in a path.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Refusal> {
    InstanceId::parse(text)
        .map_err(|id| Refusal::malformed("InvalidInstanceID.Malformed", "instance_id", &id))
}

impl Whole {
    fn of(items: &[Option<Item>]) -> Result<Option<Whole>, Refusal> {
        let Some(record) = &items[0] else { return Ok(None) };
        let receipt = |at: usize| Receipt::read(items[at].as_ref());
        Ok(Some(Whole {
            record: Record::read(record)?,
            request: items[1].as_ref().map(Request::read).transpose()?,
            receipts: [receipt(2)?, receipt(3)?, receipt(4)?, receipt(5)?],
            handoff: eventplane_handoff::Receipt::read(items[6].as_ref())?,
        }))
    }

    /// An instance of which nothing but the record is written yet.
    pub(crate) fn new(record: Record) -> Whole {
        Whole { record, request: None, receipts: [None, None, None, None], handoff: None }
    }

    /// The state as its user sees it.
    pub(crate) fn state(&self) -> State {
        shown_state(&self.record, self.request.as_ref())
    }

    /// The steps that a launch waits for.
    pub(crate) fn awaits(&self) -> Vec<&'static str> {
        let generation = self.record.progress.generation;
        let answered = |receipt: &Option<Receipt>| {
            receipt.as_ref().is_some_and(|receipt| {
                receipt.generation >= generation && receipt.answer != Answer::GivenBack
            })
        };
        if !answered(&self.receipts[0]) {
            return vec!["capacity"];
        }
        let unanswered =
            HOLDERS.iter().zip(&self.receipts).filter(|(_, receipt)| !answered(receipt));
        let unanswered: Vec<&str> = unanswered.map(|(step, _)| step.name()).collect();
        let stage = self.handoff.as_ref().filter(|handoff| handoff.generation >= generation);
        match stage.map(|handoff| handoff.stage) {
            Some(Stage::HandedOff) => vec!["host"],
            _ if unanswered.is_empty() => vec!["handoff"],
            _ => unanswered,
        }
    }

    /// Why it is in the state that its user sees: what was asked for and is not recorded yet, and
    /// otherwise what is recorded.
    fn state_reason(&self) -> Option<&Reason> {
        let asked = self.request.as_ref().filter(|request| !request.is_shown(&self.record));
        let asked = asked.and_then(|request| request.asked.as_ref()).map(|asked| &asked.reason);
        asked.or(self.record.reason.as_ref()).filter(|_| self.state() != State::Running)
    }

    /// What an instance that stops or shuts down waits for: its host's promise, or those that have
    /// not given back.
    fn awaits_to_end(&self) -> Vec<&'static str> {
        let ending = self.handoff.as_ref().filter(|one| one.ending.is_some());
        let returned = self.record.progress.returned;
        match (ending.map(|handoff| handoff.stage), self.state()) {
            (None, _) => vec!["handoff"],
            (Some(Stage::Withdrawing), _) => vec!["host"],
            (_, State::Stopping) => vec!["capacity"],
            _ => [
                (returned.capacity, "capacity"),
                (returned.network, "network"),
                (returned.storage, "storage"),
                (returned.security, "security"),
            ]
            .into_iter()
            .filter_map(|(has_returned, step)| (!has_returned).then_some(step))
            .collect(),
        }
    }

    /// The instance as an answer shows it.
    pub(crate) fn shown(&self) -> Value {
        let Record { id, spec, progress, .. } = &self.record;
        let state = self.state();
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                shown.insert(name.to_owned(), value);
            }
        };
        put("instance_id", json!(id));
        put("reservation_id", json!(spec.reservation_id));
        put("launch_index", json!(spec.launch_index));
        put("state", json!(state));
        put("state_code", json!(state.code()));
        put("state_reason", json!(self.state_reason()));
        put("instance_type", json!(spec.instance_type));
        put("image_id", json!(spec.image_id));
        put("launch_time", json!(rfc3339(self.record.created.0)));
        put("generation", json!(progress.generation));
        let [capacity, network, storage, _] = &self.receipts;
        let placement = capacity.as_ref().and_then(eventplane_capacity::placement);
        put("placement", json!(placement));
        if let Some(network) = network.as_ref().and_then(eventplane_network::lease) {
            put("private_ip", json!(network.private_ip));
            put("mac", json!(network.mac));
            put("interface_id", json!(network.interface_id));
            put("subnet_id", json!(network.subnet_id));
            put("security_group_ids", json!(network.security_group_ids));
        }
        let volumes = storage.as_ref().map(eventplane_storage::volumes).unwrap_or_default();
        put("volumes", json!(volumes));
        put("role", json!(spec.role));
        put("tags", json!(self.record.tags));
        if state == State::Pending {
            let deadline = rfc3339(self.record.deadline.0);
            put("pending", json!({ "awaits": self.awaits(), "deadline": deadline }));
        }
        if matches!(state, State::Stopping | State::ShuttingDown) {
            let due = self.record.due.map(|due| rfc3339(due.0));
            put("ending", json!({ "awaits": self.awaits_to_end(), "deadline": due }));
        }
        let is_protected = self.request.as_ref().is_some_and(|request| request.is_protected);
        put("termination_protection", json!(is_protected.then_some(true)));
        put("running_since", json!(self.record.running_at.map(|at| rfc3339(at.0))));
        put("ended_at", json!(self.record.ended_at.map(|at| rfc3339(at.0))));
        Value::Object(shown)
    }
}
