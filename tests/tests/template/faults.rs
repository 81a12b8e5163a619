//! Faults that are planted in the expansion, each for a check that must find it.

use crate::plane::Plane;
use serde_json::Value;

/// What is wrong, where (a JSON pointer below `Resources`, or to `Parameters` or `Rules`), and what
/// stands there then, in JSON.
pub(crate) struct Fault(pub(crate) &'static str, &'static str, &'static str);

impl Fault {
    /// The plane with the fault in it.
    pub(crate) fn plant(&self, plane: &Plane) -> Plane {
        let &Fault(_, at, becomes) = self;
        let mut faulty = plane.clone();
        let (parent, name) = at.rsplit_once('/').expect("a pointer");
        let beside = ["/Parameters", "/Rules"].iter().any(|of| parent.starts_with(of));
        let top = if beside { &mut faulty.0 } else { &mut faulty.0["Resources"] };
        let parent = top.pointer_mut(parent);
        let parent = parent.unwrap_or_else(|| panic!("{at}: nothing there"));
        let index = || name.parse::<usize>().expect("an index");
        let value: Option<Value> =
            (becomes != GONE).then(|| serde_json::from_str(becomes).expect("JSON"));
        match (value, parent) {
            (Some(value), Value::Object(fields)) => {
                fields.insert(name.to_owned(), value);
            }
            (None, Value::Object(fields)) => {
                fields.remove(name).unwrap_or_else(|| panic!("{at}: nothing there"));
            }
            (Some(value), Value::Array(values)) if name == "-" => values.push(value),
            (Some(value), Value::Array(values)) => values[index()] = value,
            (None, Value::Array(values)) => {
                values.remove(index());
            }
            _ => panic!("{at}: not a place for a fault"),
        }
        assert_ne!(faulty.0, plane.0, "{at}: that is how it stands");
        faulty
    }
}

/// Nothing stands there then.
const GONE: &str = "";

/// The faults for each check.
#[rustfmt::skip]
pub(crate) const FAULTS: &[(&str, &[Fault])] = &[
    ("every target of a rule has dead letters and a retry policy", &[
        Fault("a target without dead letters", "/CapacityRule/Properties/Targets/0/DeadLetterConfig", GONE),
        Fault("a target without retries", "/NetworkRule/Properties/Targets/0/RetryPolicy", GONE),
        Fault("a schedule without dead letters", "/SweeperFunctionSchedule/Properties/Targets/0/DeadLetterConfig", GONE),
        Fault("a second target", "/StorageRule/Properties/Targets/-", r#"{ "Id": "other" }"#),
    ]),
    ("every queue that EventBridge writes to lets it", &[
        Fault("no policy", "/CapacityQueuePolicy", GONE),
        Fault("no policy for the dead letters", "/NetworkQueuePolicy/Properties/Queues/1", GONE),
        Fault("a policy that allows another rule", "/StorageQueuePolicy/Properties/PolicyDocument/Statement/0/Condition/ArnEquals/aws:SourceArn", r#"{ "Fn::Sub": "rule/${Bus}/network" }"#),
        Fault("a policy that allows anybody", "/StorageQueuePolicy/Properties/PolicyDocument/Statement/0/Condition", GONE),
        Fault("a policy that denies", "/SecurityQueuePolicy/Properties/PolicyDocument/Statement/0/Effect", r#""Deny""#),
        Fault("a rule that was renamed", "/HandoffRule/Properties/Name", r#""hand-off""#),
        Fault("no policy for the bus", "/BusQueuePolicy", GONE),
        Fault("no policy for the schedule", "/SweeperQueuePolicy", GONE),
        Fault("a schedule that was renamed", "/SweeperFunctionSchedule/Properties/Name", r#""sweeper""#),
    ]),
    ("an inbox is kept less long than its dead letters, and tried five times", &[
        Fault("an inbox kept as long", "/CapacityInbox/Properties/MessageRetentionPeriod", "1209600"),
        Fault("dead letters kept for four days", "/CapacityDeadLetters/Properties/MessageRetentionPeriod", "345600"),
        Fault("three receives", "/CapacityInbox/Properties/RedrivePolicy/maxReceiveCount", "3"),
        Fault("an inbox without dead letters", "/CapacityInbox/Properties/RedrivePolicy", GONE),
        Fault("a queue in the clear", "/BusDeadLetters/Properties/SqsManagedSseEnabled", GONE),
    ]),
    ("there is a wait for every receive but the last", &[
        Fault("a wait too few", "/Parameters/RetryWaitsS/Default", r#""2,10,60""#),
        Fault("a wait that is no number", "/Parameters/RetryWaitsS/Default", r#""2,10,60,5m""#),
        Fault("a receive too many", "/CapacityInbox/Properties/RedrivePolicy/maxReceiveCount", "6"),
        Fault("as many as one likes", "/Parameters/RetryWaitsS/AllowedPattern", r#""[0-9,]+""#),
    ]),
    ("a message stays hidden for six times the function's timeout", &[
        Fault("a shorter time", "/NetworkInbox/Properties/VisibilityTimeout", "60"),
        Fault("the default", "/NetworkInbox/Properties/VisibilityTimeout", GONE),
        Fault("a slower function", "/NetworkFunction/Properties/Timeout", "30"),
    ]),
    ("every event has a rule or is terminal", &[
        Fault("an event that nobody hears", "/InstancesRule/Properties/EventPattern/detail-type/0", GONE),
        Fault("a terminal event that is heard", "/InstancesRule/Properties/EventPattern/detail-type/-", r#""InstanceTerminated""#),
    ]),
    ("every rule has a publisher of all that it hears, and no other source", &[
        Fault("a misspelt event", "/CapacityRule/Properties/EventPattern/detail-type/-", r#""InstanceRequest""#),
        Fault("a source too few", "/CapacityRule/Properties/EventPattern/source/0", GONE),
        Fault("a source too many", "/NetworkRule/Properties/EventPattern/source/-", r#""eventplane.api""#),
        Fault("a step without a rule", "/NetworkRule", GONE),
    ]),
    ("no rule matches its own function's output", &[
        Fault("a step that hears itself", "/CapacityRule/Properties/EventPattern/source/-", r#""eventplane.capacity""#),
        Fault("every source", "/CapacityRule/Properties/EventPattern/source", GONE),
    ]),
    ("rules of steps refuse replays", &[
        Fault("replays", "/SecurityRule/Properties/EventPattern/replay-name", GONE),
        Fault("only replays", "/SecurityRule/Properties/EventPattern/replay-name/0/exists", "true"),
    ]),
    ("each tenant has its fair share of an inbox", &[
        Fault("one group for all", "/CapacityRule/Properties/Targets/0/SqsParameters/MessageGroupId", r#""all""#),
        Fault("no group", "/HandoffRule/Properties/Targets/0/SqsParameters", GONE),
        Fault("a queue in order", "/NetworkInbox/Properties/FifoQueue", "true"),
    ]),
    ("the shadow hears replays alone, and no function reads them", &[
        Fault("everything", "/ShadowRule/Properties/EventPattern/replay-name", GONE),
        Fault("what happens", "/ShadowRule/Properties/EventPattern/replay-name/0/exists", "false"),
        Fault("a part of it", "/ShadowRule/Properties/EventPattern/detail-type", r#"["InstanceRequested"]"#),
        Fault("no shadow", "/ShadowRule", GONE),
        Fault("a step instead", "/ShadowRule/Properties/Targets/0/Arn", r#"{ "Fn::GetAtt": ["CapacityInbox", "Arn"] }"#),
        Fault("a function behind it", "/CapacityFunctionInbox/Properties/EventSourceArn", r#"{ "Fn::GetAtt": ["ShadowInbox", "Arn"] }"#),
    ]),
    ("mappings report batch item failures, are bounded, and filter nothing", &[
        Fault("whole batches", "/CapacityFunctionInbox/Properties/FunctionResponseTypes", GONE),
        Fault("no bound", "/CapacityFunctionInbox/Properties/ScalingConfig", GONE),
        Fault("a filter", "/CapacityFunctionInbox/Properties/FilterCriteria", r#"{ "Filters": [] }"#),
        Fault("a step without its inbox", "/CapacityFunctionInbox", GONE),
        Fault("another's inbox", "/CapacityFunctionInbox/Properties/EventSourceArn", r#"{ "Fn::GetAtt": ["NetworkInbox", "Arn"] }"#),
        Fault("the newest version instead of the alias", "/CapacityFunctionInbox/Properties/FunctionName", r#"{ "Ref": "CapacityFunction" }"#),
    ]),
    ("roles hold what their functions' ports need and nothing else", &[
        Fault("another's table", "/CapacityRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource", r#"{ "Fn::GetAtt": ["NetworkTable", "Arn"] }"#),
        Fault("an action too many", "/NetworkRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-", r#""dynamodb:Scan""#),
        Fault("an action too few", "/NetworkRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/0", GONE),
        Fault("a wait that cannot be set", "/CapacityRole/Properties/Policies/0/PolicyDocument/Statement/2/Action/2", GONE),
        Fault("another's events", "/CapacityRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition/StringEquals/events:detail-type/-", r#""NetworkConfigured""#),
        Fault("another's source", "/CapacityRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition/ForAllValues:StringEquals/events:source", r#""eventplane.api""#),
        Fault("any event", "/CapacityRole/Properties/Policies/0/PolicyDocument/Statement/1/Condition", GONE),
        Fault("the table instead of its index", "/SweeperRole/Properties/Policies/0/PolicyDocument/Statement/3/Resource", r#"{ "Fn::GetAtt": ["InstancesTable", "Arn"] }"#),
        Fault("another's role", "/CapacityFunction/Properties/Role", r#"{ "Fn::GetAtt": ["ApiRole", "Arn"] }"#),
        Fault("a breaker that it may not touch", "/ApiRole/Properties/Policies/0/PolicyDocument/Statement/7/Resource/1", GONE),
        Fault("any mapping", "/ApiRole/Properties/Policies/0/PolicyDocument/Statement/7/Resource/-", r#""*""#),
        Fault("a refusal", "/ApiRole/Properties/Policies/0/PolicyDocument/Statement/0/Effect", r#""Deny""#),
    ]),
    ("no action is a wildcard, and no policy is managed", &[
        Fault("a wildcard", "/HandoffRole/Properties/Policies/0/PolicyDocument/Statement/0/Action", r#""dynamodb:*""#),
        Fault("part of a wildcard", "/HandoffRole/Properties/Policies/0/PolicyDocument/Statement/0/Action", r#"["dynamodb:Get*"]"#),
        Fault("everything", "/HandoffRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource", r#""*""#),
        Fault("a managed policy", "/HandoffRole/Properties/ManagedPolicyArns", r#"["arn:aws:iam::aws:policy/AdministratorAccess"]"#),
        Fault("a policy beside the role", "/Extra", r#"{ "Type": "AWS::IAM::Policy", "Properties": {} }"#),
    ]),
    ("tables are what the code says, and keep their data", &[
        Fault("deleted with the stack", "/CapacityTable/DeletionPolicy", r#""Delete""#),
        Fault("deleted when replaced", "/CapacityTable/UpdateReplacePolicy", GONE),
        Fault("unprotected", "/NetworkTable/Properties/DeletionProtectionEnabled", GONE),
        Fault("no recovery", "/NetworkTable/Properties/PointInTimeRecoverySpecification", GONE),
        Fault("in the clear", "/NetworkTable/Properties/SSESpecification", GONE),
        Fault("named", "/StorageTable/Properties/TableName", r#""storage""#),
        Fault("provisioned", "/StorageTable/Properties/BillingMode", r#""PROVISIONED""#),
        Fault("nothing expires", "/StorageTable/Properties/TimeToLiveSpecification/Enabled", "false"),
        Fault("another key", "/HandoffTable/Properties/KeySchema/1/AttributeName", r#""sort""#),
        Fault("an index too few", "/InstancesTable/Properties/GlobalSecondaryIndexes/1", GONE),
        Fault("a whole copy in an index", "/SecurityTable/Properties/GlobalSecondaryIndexes/0/Projection/ProjectionType", r#""ALL""#),
        Fault("no tag", "/SecurityTable/Properties/Tags", GONE),
    ]),
    ("the master key is rotated and kept", &[
        Fault("deleted with the stack", "/MasterKey/DeletionPolicy", GONE),
        Fault("never rotated", "/MasterKey/Properties/EnableKeyRotation", "false"),
        Fault("two keys", "/SecondKey", r#"{ "Type": "AWS::KMS::Key" }"#),
    ]),
    ("logs end, and every function has its own", &[
        Fault("kept for ever", "/CapacityLogs/Properties/RetentionInDays", GONE),
        Fault("another's log", "/CapacityFunction/Properties/LoggingConfig/LogGroup", r#"{ "Ref": "NetworkLogs" }"#),
        Fault("no lines of debugging", "/CapacityFunction/Properties/LoggingConfig/ApplicationLogLevel", GONE),
        Fault("no metrics", "/ApiFunction/Properties/LoggingConfig/ApplicationLogLevel", r#""WARN""#),
        Fault("the platform's lines", "/CapacityFunction/Properties/LoggingConfig/SystemLogLevel", GONE),
    ]),
    ("functions are told what they read", &[
        Fault("no table", "/CapacityFunction/Properties/Environment/Variables/TABLE_CAPACITY", GONE),
        Fault("another's table", "/CapacityFunction/Properties/Environment/Variables/TABLE_CAPACITY", r#"{ "Ref": "NetworkTable" }"#),
        Fault("something else", "/CapacityFunction/Properties/Environment/Variables/TABLE_NETWORK", r#"{ "Ref": "NetworkTable" }"#),
        Fault("another's inbox", "/CapacityFunction/Properties/Environment/Variables/INBOX_URL", r#"{ "Ref": "NetworkInbox" }"#),
        Fault("no waits", "/CapacityFunction/Properties/Environment/Variables/RETRY_WAITS_S", GONE),
        Fault("no breaker", "/ApiFunction/Properties/Environment/Variables/MAPPING_ID_NETWORK", GONE),
        Fault("another's breaker", "/ApiFunction/Properties/Environment/Variables/MAPPING_ID_NETWORK", r#"{ "Ref": "StorageFunctionInbox" }"#),
        Fault("an inbox for a dead-letter queue", "/ApiFunction/Properties/Environment/Variables/DEAD_LETTERS_URL_CAPACITY", r#"{ "Ref": "CapacityInbox" }"#),
    ]),
    ("a parameter that changes makes another version", &[
        Fault("a parameter that the version does not show", "/ApiFunction/Properties/Environment/Variables/MORE", r#"{ "Ref": "AlarmEmail" }"#),
        Fault("one deep within", "/CapacityFunction/Properties/Layers", r#"[{ "Fn::If": ["OnAws", { "Ref": "SweepSchedule" }, ""] }]"#),
        Fault("one that is not the function's any more", "/SweeperFunction/Properties/MemorySize", "256"),
    ]),
    ("an asynchronous function says where its failures go", &[
        Fault("nowhere", "/SweeperFunctionEventInvokeConfig", GONE),
        Fault("of another version", "/SweeperFunctionEventInvokeConfig/Properties/Qualifier", r#""$LATEST""#),
    ]),
    ("new code goes back whatever fails", &[
        Fault("no failed messages", "/RollbackAlarm/Properties/Metrics/1", GONE),
        Fault("failed messages of every stack", "/RollbackAlarm/Properties/Metrics/1/MetricStat/Metric/Dimensions", GONE),
        Fault("the metric of REST APIs", "/RollbackAlarm/Properties/Metrics/2/MetricStat/Metric/MetricName", r#""5XXError""#),
        Fault("a function too few", "/RollbackAlarm/Properties/Metrics/3", GONE),
        Fault("an average", "/RollbackAlarm/Properties/Metrics/1/MetricStat/Stat", r#""Average""#),
        Fault("the largest alone", "/RollbackAlarm/Properties/Metrics/0/Expression", r#""MAX(METRICS())""#),
    ]),
    ("parameters that let in nobody, or anybody, are refused", &[
        Fault("tokens without an issuer", "/Rules/TokensHaveAnIssuer/Assertions/0", GONE),
        Fault("tokens for anybody", "/Rules/TokensHaveAnIssuer/Assertions/1", GONE),
        Fault("hosts' tokens without an issuer", "/Rules/TokensHaveAnIssuer/RuleCondition/Fn::Or/1", GONE),
        Fault("tokens of no tenant", "/Rules/TokensAreOfATenant", GONE),
        Fault("a claim without tokens", "/Rules/ClaimsAreOfTokens", GONE),
        Fault("hosts that are tenants", "/Rules/HostsAreNoTenants", GONE),
        Fault("hosts that are never of the one tenant", "/Rules/HostsAreNoTenants/Assertions/0/Assert/Fn::Equals/1", r#""""#),
    ]),
    ("routes ask who is there, and lead to the alias", &[
        Fault("an open route", "/ApiRoute/Properties/AuthorizationType", r#""NONE""#),
        Fault("a host's route in the people's slot", "/HostReportsRoute/Properties/AuthorizationType", r#"{ "Ref": "Authorization" }"#),
        Fault("an operator's route in the people's slot", "/DeadLetterRoute/Properties/AuthorizationType", r#"{ "Ref": "Authorization" }"#),
        Fault("an operator's route that is asked for people's tokens", "/HostCapacityRoute/Properties/AuthorizerId/Fn::If/0", r#""PeopleUseJwt""#),
        Fault("a route to nowhere", "/HostRoute/Properties/Target", GONE),
        Fault("a route too few", "/HostReportsRoute", GONE),
        Fault("an operator's route too few", "/HostListRoute", GONE),
        Fault("replays for everybody", "/ReplaysRoute/Properties/AuthorizationType", r#"{ "Ref": "Authorization" }"#),
        Fault("an agents' route that the account guards", "/AgentsRoute/Properties/AuthorizationType", r#"{ "Ref": "HostAuthorization" }"#),
        Fault("tokens for hosts for everybody", "/EnrolmentsRoute/Properties/AuthorizationType", r#""NONE""#),
        Fault("an open route too many", "/AgentsRoute/Properties/RouteKey", r#""ANY /v1/{proxy+}""#),
        Fault("past the alias", "/ApiIntegration/Properties/IntegrationUri", r#"{ "Fn::GetAtt": ["ApiFunction", "Arn"] }"#),
        Fault("no access log", "/ApiStage/Properties/AccessLogSettings", GONE),
        Fault("no limit", "/ApiStage/Properties/DefaultRouteSettings/ThrottlingRateLimit", GONE),
    ]),
    ("an emulator is not asked for what it does not know", &[
        Fault("an archive", "/BusArchive/Condition", GONE),
        Fault("schemas", "/Schemas/Condition", GONE),
    ]),
];
