//! The world of one function: its ports, connected to what the template gave it.

#[cfg(feature = "breakers")]
use crate::breakers::{Mapping, MappingBreakers};
use crate::config::config;
use crate::letters::{OwnQueues, Queues, SqsDeadLetters};
use crate::settings::{ENVIRONMENT, SettingError, environment_of};
use crate::{DynamoStore, EventBridge, KmsMasterKey, log};
use aws_config::SdkConfig;
use eventplane_engine::{Chance, OsChance, Ports, SystemClock};
use eventplane_keys::MasterKey;
use eventplane_store::Table;
use std::sync::Arc;

/// What stands for a claim where every token is of the one tenant.
pub(crate) const ONE_TENANT: &str = "*";

/// A function's world on Lambda.
pub struct World {
    /// Store, bus, clock and chance.
    pub ports: Ports,
    sdk: SdkConfig,
}

impl World {
    /// Connects a function that was given these tables; sets up its log. Nothing is sent yet.
    ///
    /// # Errors
    /// A setting that is missing.
    pub fn connect(tables: &[Table]) -> Result<World, SettingError> {
        log::start(ENVIRONMENT.optional("RUST_LOG"), ENVIRONMENT.optional("STACK_NAME"));
        let sdk = config();
        let named = |table: &Table| Ok((*table, ENVIRONMENT.of("TABLE", table.name)?));
        let tables = tables.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let chance: Arc<dyn Chance> = Arc::new(OsChance::default());
        let dynamo = aws_sdk_dynamodb::Client::new(&sdk);
        let bus = aws_sdk_eventbridge::Client::new(&sdk);
        let ports = Ports {
            store: Arc::new(DynamoStore::new(dynamo, tables, chance.clone())),
            bus: Arc::new(EventBridge::new(bus, ENVIRONMENT.text("BUS_NAME")?, chance.clone())),
            clock: Arc::new(SystemClock),
            chance,
        };
        Ok(World { ports, sdk })
    }

    /// The master key that wraps tenants' keys.
    ///
    /// # Errors
    /// A setting that is missing.
    pub fn master_key(&self) -> Result<Arc<dyn MasterKey>, SettingError> {
        let key_id = ENVIRONMENT.text("MASTER_KEY_ID")?;
        Ok(Arc::new(KmsMasterKey::new(aws_sdk_kms::Client::new(&self.sdk), key_id)))
    }

    /// How long a launch has until it must run, in milliseconds.
    ///
    /// # Errors
    /// A setting that is missing or no number.
    pub fn launch_deadline_ms(&self) -> Result<i64, SettingError> {
        ENVIRONMENT.seconds_as_ms("LAUNCH_DEADLINE_S")
    }

    /// How long an instance may take to stop, or to shut down, before it is shown as overdue, in
    /// milliseconds.
    ///
    /// # Errors
    /// A setting that is missing or no number.
    pub fn ending_deadline_ms(&self) -> Result<i64, SettingError> {
        ENVIRONMENT.seconds_as_ms("ENDING_DEADLINE_S")
    }

    /// After how long a silence a host counts as dead, in milliseconds; none for never.
    ///
    /// # Errors
    /// A setting that is missing or no number.
    pub fn host_dead_after_ms(&self) -> Result<Option<i64>, SettingError> {
        ENVIRONMENT.seconds_as_ms_if_any("HOST_DEAD_AFTER_S")
    }

    /// What is limited, as `LIMITS` has it; nothing where it is empty.
    #[must_use]
    pub fn limits(&self) -> String {
        ENVIRONMENT.optional("LIMITS").unwrap_or_default()
    }

    /// Whether callers' tokens name their tenants; otherwise there is one tenant for all.
    #[must_use]
    pub fn tokens_name_tenants(&self) -> bool {
        self.tenant_claim().is_some_and(|claim| claim != ONE_TENANT)
    }

    /// The claim of a caller's token that names its tenant.
    pub(crate) fn tenant_claim(&self) -> Option<String> {
        ENVIRONMENT.optional("TENANT_CLAIM")
    }

    /// The dead letters of all functions that this one was told of: each as `INBOX_URL_<NAME>` with
    /// `DEAD_LETTERS_URL_<NAME>`.
    ///
    /// # Errors
    /// A setting that is missing.
    pub fn dead_letters(&self) -> Result<SqsDeadLetters, SettingError> {
        let queues = |(function, inbox): (String, String)| {
            let dead_letters = ENVIRONMENT.of("DEAD_LETTERS_URL", &function)?;
            Ok(Queues { function, inbox, dead_letters })
        };
        let inboxes = environment_of("INBOX_URL_");
        let queues = inboxes.into_iter().map(queues).collect::<Result<Vec<_>, _>>()?;
        let client = aws_sdk_sqs::Client::new(&self.sdk);
        Ok(SqsDeadLetters::new(client, queues))
    }

    /// The breakers of all functions that this one was told of: each as `MAPPING_ID_<NAME>` with
    /// `INBOX_URL_<NAME>`.
    ///
    /// # Errors
    /// A setting that is missing.
    #[cfg(feature = "breakers")]
    pub fn breakers(&self) -> Result<MappingBreakers, SettingError> {
        let mapping = |(function, id): (String, String)| {
            let inbox = ENVIRONMENT.of("INBOX_URL", &function)?;
            Ok(Mapping { function, id, inbox })
        };
        let mappings = environment_of("MAPPING_ID_").into_iter().map(mapping);
        let mappings = mappings.collect::<Result<Vec<_>, _>>()?;
        let lambda = aws_sdk_lambda::Client::new(&self.sdk);
        Ok(MappingBreakers::new(lambda, aws_sdk_sqs::Client::new(&self.sdk), mappings))
    }

    /// This function's own queues.
    pub(crate) fn own_queues(&self) -> Result<OwnQueues, SettingError> {
        let (inbox, letters) =
            (ENVIRONMENT.text("INBOX_URL")?, ENVIRONMENT.text("DEAD_LETTERS_URL")?);
        Ok(OwnQueues::new(aws_sdk_sqs::Client::new(&self.sdk), inbox, letters))
    }

    /// How long messages that failed wait.
    pub(crate) fn retry_waits(&self) -> Result<String, SettingError> {
        ENVIRONMENT.text("RETRY_WAITS_S")
    }
}
