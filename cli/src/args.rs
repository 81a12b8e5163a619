//! The words of the command.

use crate::console::Console;
use crate::hosts::HostVerb;
use crate::problem::AFTER_HELP;
use crate::show::Output;
use clap::{Args, Parser, Subcommand};
use eventplane_plane::LimitSettings;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where a plane is, unless told otherwise.
pub(crate) const ENDPOINT: &str = "http://127.0.0.1:7878";
/// The port of `up`, unless told otherwise.
pub(crate) const PORT: u16 = 7878;
/// How many dead letters are redriven in a second, unless told otherwise.
const REDRIVEN_PER_S: u32 = 20;
/// As many as the API takes on with one request.
const REDRIVEN_PER_S_MAX: i64 = 1_000;
/// The most simulated hosts of one process.
const HOSTS_MAX: i64 = 100_000;
/// The zones of simulated hosts, unless told otherwise.
const ZONES: &str = "zone-a,zone-b,zone-c";

/// A control plane for machines, in the shape of EC2.
#[derive(Debug, Parser)]
#[command(name = "eventplane", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// How to print: a table on a terminal and JSON in a pipe, unless told otherwise.
    #[arg(long, global = true, value_enum, env = "EVENTPLANE_OUTPUT")]
    pub(crate) output: Option<Output>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where the control plane is, and who is asking.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// Where the control plane is.
    #[arg(long, global = true, env = "EVENTPLANE_ENDPOINT", default_value = ENDPOINT)]
    pub(crate) endpoint: String,
    /// A bearer token, for endpoints that want a JWT.
    #[arg(long, global = true, env = "EVENTPLANE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// Sign requests with AWS credentials, as is done anyway for
    /// API.execute-api.REGION.amazonaws.com.
    #[arg(long, global = true, env = "EVENTPLANE_SIGN",
        value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) sign: bool,
}

/// What is never printed.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show a whole control plane at work: launches, a broken step, a refusal, and the end.
    Demo {
        /// End when all is shown, instead of staying up.
        #[arg(long)]
        exit: bool,
        /// Show three real agents on this machine instead, whose instances are processes.
        #[arg(long)]
        real: bool,
    },
    /// Run a control plane with simulated hosts in this process.
    Up(Box<Up>),
    /// Run this machine's agent, or simulated hosts, against a control plane.
    Agent(Agent),
    /// Keep one instance of this machine's agent: the agent runs it.
    #[command(hide = true)]
    RunInstance {
        /// The instance's directory.
        dir: PathBuf,
    },
    /// Answer over HTTP with who this instance is: the demonstration's instances do.
    #[command(hide = true)]
    Hello {
        /// Where to listen.
        listen: std::net::SocketAddr,
    },
    /// Launch instances.
    Launch(Box<Launch>),
    /// List instances.
    List(List),
    /// Show all of one instance.
    Describe {
        /// Its id.
        id: String,
    },
    /// Show what each step did for an instance, when and why, as a waterfall.
    Events {
        /// The instance's id.
        id: String,
    },
    /// Print what an instance has written to its console.
    Console(Console),
    /// Show why an instance is pending or has failed, and what would run instead.
    Why {
        /// The instance's id.
        id: String,
    },
    /// Start stopped instances, where there is room in their zones.
    Start {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop running instances: address and volumes stay theirs.
    Stop {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Reboot running instances where they run.
    Reboot {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Protect an instance from termination.
    Protect {
        /// Its id.
        id: String,
        /// No longer.
        #[arg(long)]
        off: bool,
    },
    /// Show what led to what in an instance's life: which receipt, at which try, how long.
    Explain {
        /// The instance's id.
        id: String,
    },
    /// Terminate instances.
    Terminate {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// List hosts; let one enrol; drain one, return it to work, or give your word that it is dead.
    Hosts {
        #[command(subcommand)]
        verb: Option<HostVerb>,
    },
    /// Show what the hosts have and what is free.
    Capacity,
    /// List instance types.
    Types,
    /// Prove that free and held is total everywhere, or show who holds what.
    Ledger {
        #[command(subcommand)]
        verb: LedgerVerb,
    },
    /// List breakers; open one, so that its function's events wait, or close it.
    Breaker {
        #[command(subcommand)]
        verb: BreakerVerb,
    },
    /// List, show, redrive and purge what functions could not handle.
    DeadLetters {
        #[command(subcommand)]
        verb: LetterVerb,
    },
    /// Show what you may have, what of it is used, and how often you may ask.
    Limits,
    /// Show what the plane takes on now; set it, or give it back to the rules.
    Mode {
        #[command(subcommand)]
        verb: Option<ModeVerb>,
    },
    /// Put past events to the functions once more, in a shadow where nothing is done.
    Replay(Replay),
    /// Show and verify the audit chain of an instance.
    Audit {
        /// The instance's id.
        id: String,
    },
    /// Say whether an event pattern matches an event: prints `true` or `false`.
    TestPattern {
        /// The file with the pattern.
        #[arg(long)]
        pattern: PathBuf,
        /// The file with the event.
        #[arg(long)]
        event: PathBuf,
    },
    /// Show what the plane costs on AWS: a month at rest, and its launches.
    Cost(Cost),
    /// Delete the data that `sam delete` has kept, and its key.
    Purge(Purge),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept; in memory without it.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The port; 0 for a free one.
    #[arg(long, default_value_t = PORT)]
    pub(crate) port: u16,
    /// The address to listen at. Others than loopback let everybody in who reaches it.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) listen: IpAddr,
    /// After how many seconds of silence a host counts as dead, and what it ran is started
    /// elsewhere; never without it. A host that is only cut off then runs the same twice.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(180..))]
    pub(crate) host_dead_after_s: Option<u32>,
    /// How many simulated hosts.
    #[arg(long, default_value_t = 12, value_parser = hosts())]
    pub(crate) hosts: u32,
    /// Their zones.
    #[arg(long, value_delimiter = ',', default_value = ZONES)]
    pub(crate) zones: Vec<String>,
    /// What is limited: `ec2` for EC2's limits, with commas and what differs, such as
    /// `ec2,vcpus=64,RunInstances=5/2`.
    #[arg(long, default_value = "off", value_parser = LimitSettings::parse)]
    pub(crate) limits: LimitSettings,
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    #[command(flatten)]
    pub(crate) kind: AgentKind,
    /// What a host that is not known yet is let in with, once: `eventplane hosts enrol` gives it. Without
    /// it the host is enrolled by whoever runs this, if they may.
    #[arg(long, env = "EVENTPLANE_ENROL_TOKEN", hide_env_values = true, requires = "host_config")]
    pub(crate) enrol_token: Option<String>,
    /// What the ids of simulated hosts begin with: every fleet of one plane needs its own.
    #[arg(long, default_value = "agent", conflicts_with = "host_config")]
    pub(crate) prefix: String,
    /// The zones of simulated hosts.
    #[arg(long, value_delimiter = ',', default_value = ZONES, conflicts_with = "host_config")]
    pub(crate) zones: Vec<String>,
    /// Where simulated hosts keep what they run and have promised; they forget without it.
    #[arg(long, conflicts_with = "host_config")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// A real host, or simulated ones.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct AgentKind {
    /// The file that describes this host, `host.toml`: its agent runs instances on this machine.
    #[arg(long)]
    pub(crate) host_config: Option<PathBuf>,
    /// How many simulated hosts.
    #[arg(long, value_parser = hosts())]
    pub(crate) simulated: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// The instance type, such as t3.micro.
    pub(crate) instance_type: String,
    /// How many, each a launch of its own.
    #[arg(long)]
    pub(crate) count: Option<u32>,
    /// The zone.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// The subnet's id.
    #[arg(long)]
    pub(crate) subnet: Option<String>,
    /// The private address.
    #[arg(long)]
    pub(crate) private_ip: Option<String>,
    /// A security group's id; may be given more than once.
    #[arg(long = "security-group")]
    pub(crate) security_groups: Vec<String>,
    /// The image's id.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// A data volume; may be given more than once. As GIB, or as names and values such as
    /// `size_gib=100,volume_type=io2,iops=3000,device=/dev/sdf,delete_on_termination=false`.
    #[arg(long = "volume", value_parser = crate::body::volume)]
    pub(crate) volumes: Vec<serde_json::Value>,
    /// The instance's role.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// A tag as KEY=VALUE; may be given more than once.
    #[arg(long = "tag", value_parser = crate::body::tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// A file with user data.
    #[arg(long)]
    pub(crate) user_data: Option<PathBuf>,
    /// Makes repeating this launch harmless.
    #[arg(long)]
    pub(crate) client_token: Option<String>,
    /// How to choose hosts: spread or pack.
    #[arg(long)]
    pub(crate) strategy: Option<String>,
    /// Refuse terminations until `eventplane protect --off`.
    #[arg(long)]
    pub(crate) termination_protection: bool,
    /// Only say whether the request is in order.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// How many hosts are enrolled.
    #[arg(long, default_value_t = 10)]
    pub(crate) hosts: u64,
    /// How many instances run on them.
    #[arg(long, default_value_t = 100)]
    pub(crate) instances: u64,
    /// How many instances are launched in a month, and terminated.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) launches_per_month: u64,
    /// How many GB the tables hold.
    #[arg(long, default_value_t = 1.0, value_parser = gigabytes)]
    pub(crate) gigabytes: f64,
    /// How many metrics the stack's alarms look at.
    #[arg(long, default_value_t = eventplane_cost::ALARMS)]
    pub(crate) alarms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// The stack that the data was of.
    #[arg(long)]
    pub(crate) stack: String,
    /// How many days the key can still be saved by cancelling its deletion.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i32).range(7..=30))]
    pub(crate) key_days: i32,
    /// The stack's name once more, instead of typing it: for scripts.
    #[arg(long, value_name = "STACK")]
    pub(crate) yes_delete: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Published from this moment on, such as 2026-11-25T08:30:00Z.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Published up to this moment.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Only what is about this instance.
    #[arg(long)]
    pub(crate) instance: Option<String>,
    /// Only to this function.
    #[arg(long)]
    pub(crate) function: Option<String>,
    /// The archive of this stack on AWS, instead of the plane's own.
    #[arg(long, requires = "from", requires = "to")]
    pub(crate) stack: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Wait until it is done.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 120, requires = "wait", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout_s: u64,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this state.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Only this zone.
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// Only this instance type.
    #[arg(long = "type")]
    pub(crate) instance_type: Option<String>,
    /// Only what has this tag, as KEY or KEY=VALUE.
    #[arg(long)]
    pub(crate) tag: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModeVerb {
    /// Take on only this, whatever the rules say.
    Set {
        /// normal, shedding, terminate-only or read-only.
        mode: String,
        /// Why: whoever is refused reads it.
        #[arg(long)]
        reason: String,
    },
    /// Give the mode back to the rules, which leave it step by step.
    Auto,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerVerb {
    /// Check that every host, block of addresses and pool adds up, and that whoever is terminated
    /// holds nothing; the exit code is 1 if not.
    Check,
    /// Show the open entries: who holds what, and since when.
    Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LetterVerb {
    /// List dead letters.
    List {
        /// Only those of this function.
        #[arg(long)]
        function: Option<String>,
    },
    /// Show one with its message.
    Show {
        /// Its id.
        id: String,
    },
    /// Deliver one to its function again, or all that there are now.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Redrive {
        /// Its id.
        #[arg(group = "which")]
        id: Option<String>,
        /// All of them.
        #[arg(long, group = "which")]
        all: bool,
        /// Only say what it would do: apply, nothing to do, stale, or unsafe.
        #[arg(long)]
        dry_run: bool,
        /// Only those of this function.
        #[arg(long, requires = "all", conflicts_with = "id")]
        function: Option<String>,
        /// How many a second at most.
        #[arg(long, default_value_t = REDRIVEN_PER_S, requires = "all", conflicts_with = "id",
            value_parser = clap::value_parser!(u32).range(1..=REDRIVEN_PER_S_MAX))]
        rate: u32,
    },
    /// Remove all of one function for ever.
    Purge {
        /// The function.
        #[arg(long)]
        function: String,
        /// The function's name once more, instead of typing it: for scripts.
        #[arg(long, value_name = "FUNCTION")]
        yes_purge: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BreakerVerb {
    /// List breakers, and how many messages wait for each function.
    List,
    /// Open one: its function gets no events, which wait and are not lost.
    Open {
        /// The function, such as network.
        function: String,
    },
    /// Close one: what has waited is handed out at a limited rate.
    Close {
        /// The function.
        function: String,
    },
}

fn hosts() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=HOSTS_MAX)
}

fn gigabytes(text: &str) -> Result<f64, String> {
    let size: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e9).contains(&size) { Ok(size) } else { Err("0 or more".to_owned()) }
}
