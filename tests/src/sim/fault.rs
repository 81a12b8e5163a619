//! What may go wrong in a history, and the profiles that choose among it.

use std::fmt;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Duplicate,
    Burst,
    Reversed,
    Late,
    Storm,
    Crash,
    TwoWorkers,
    Refused,
    ManyRefused,
    Unanswered,
    LostAnswer,
    PartialPublish,
    PublishThrottled,
    RuleGone,
    NoPermission,
    Throttled,
    StuckGiveBack,
    Poison,
    UnknownField,
    LaterVersion,
    HotKey,
    Conflicts,
    StoreDown,
    LateIndex,
    Hasty,
    Scarce,
    Mistakes,
    HostDies,
    HostSilent,
    AgentRestarts,
    StartFails,
    EndsItself,
    Skew,
    LostMessage,
    ApiDies,
    SweeperTwice,
    SweeperDown,
    Redrive,
    PlaneGone,
}

use Kind::{
    AgentRestarts, ApiDies, Burst, Conflicts, Crash, Duplicate, EndsItself, Hasty, HostDies,
    HostSilent, HotKey, Late, LateIndex, LaterVersion, LostAnswer, LostMessage, ManyRefused,
    Mistakes, NoPermission, PartialPublish, PlaneGone, Poison, PublishThrottled, Redrive, Refused,
    Reversed, RuleGone, Scarce, Skew, StartFails, StoreDown, Storm, StuckGiveBack, SweeperDown,
    SweeperTwice, Throttled, TwoWorkers, Unanswered, UnknownField,
};

/// All kinds: how each is named where one is left out, and what it does.
pub const KINDS: [(Kind, &str, &str); 39] = [
    (Duplicate, "duplicate", "a message is delivered again"),
    (Burst, "burst", "an event is delivered 2 to 100 times, also at once"),
    (Reversed, "reversed", "the newest message comes first"),
    (Late, "late", "a copy of an event comes 24 hours late"),
    (
        Storm,
        "storm",
        "all that was ever delivered comes again, when all runs and when all has ended",
    ),
    (Crash, "crash", "a worker dies before its effect, after it, or after it has published"),
    (TwoWorkers, "two-workers", "a worker takes too long: another one has its message as well"),
    (Refused, "refused", "a call fails, and says that nothing was done"),
    (ManyRefused, "many-refused", "a fifth of all calls fails"),
    (Unanswered, "unanswered", "nothing is committed, and no answer comes"),
    (LostAnswer, "lost-answer", "it is committed, and no answer comes"),
    (PartialPublish, "partial-publish", "the bus takes some of the events, and not the others"),
    (PublishThrottled, "publish-throttled", "the bus takes nothing for ten minutes"),
    (RuleGone, "rule-gone", "the rule of a function matches nothing: its events are lost"),
    (NoPermission, "no-permission", "the bus may not send to an inbox: dead letters at once"),
    (Throttled, "throttled", "a function is not run for an hour"),
    (StuckGiveBack, "stuck-give-back", "a give-back fails until it is a dead letter"),
    (Poison, "poison", "a message that nobody can read, or of a version nobody knows, or a loop"),
    (UnknownField, "unknown-field", "events of a later minor version have fields nobody knows"),
    (LaterVersion, "later-version", "a function's next version runs beside it"),
    (HotKey, "hot-key", "calls that touch one partition are throttled"),
    (Conflicts, "conflicts", "transactions on hosts meet others"),
    (StoreDown, "store-down", "the store does not answer, for five minutes or for three hours"),
    (LateIndex, "late-index", "indexes are up to five minutes behind"),
    (Hasty, "hasty", "launches have 0.6 seconds"),
    (Scarce, "scarce", "a subnet has fewer addresses than there are launches"),
    (Mistakes, "mistakes", "users name others' instances, and use tokens for something else"),
    (HostDies, "host-dies", "a host is gone with all it runs, and its operator says so"),
    (HostSilent, "host-silent", "a host's agent is cut off, and its instances run on"),
    (AgentRestarts, "agent-restarts", "an agent is killed and started again"),
    (StartFails, "start-fails", "a host cannot start what it was given"),
    (EndsItself, "ends-itself", "an instance that runs ends by itself"),
    (Skew, "skew", "clocks are up to 30 seconds apart"),
    (LostMessage, "lost-message", "a message is lost"),
    (ApiDies, "api-dies", "the api dies in the middle of a request"),
    (SweeperTwice, "sweeper-twice", "two sweepers sweep at once"),
    (SweeperDown, "sweeper-down", "the sweeper does nothing for two hours"),
    (Redrive, "redrive", "all dead letters are delivered again, at once and twice"),
    (PlaneGone, "plane-gone", "the whole control plane is gone for an hour"),
];

impl Kind {
    /// How it is named.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }
    /// The kind of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Kind> {
        KINDS.iter().find(|(_, other, _)| *other == name).map(|(kind, ..)| *kind)
    }
    /// Whether it loses what only the sweeper finds again.
    #[must_use]
    pub fn loses(self) -> bool {
        matches!(self, RuleGone | LostMessage | ApiDies)
    }
    /// Whether it strikes one function and not another: then it has to strike each.
    #[must_use]
    pub fn is_of_functions(self) -> bool {
        matches!(
            self,
            Duplicate
                | Burst
                | Late
                | Crash
                | TwoWorkers
                | Refused
                | ManyRefused
                | Unanswered
                | LostAnswer
                | PartialPublish
                | PublishThrottled
                | RuleGone
                | NoPermission
                | Throttled
                | Poison
                | UnknownField
                | LaterVersion
                | LostMessage
                | Redrive
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u64);

impl Kinds {
    /// These.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Kinds {
        kinds.iter().fold(Kinds(0), |set, kind| set.with(*kind))
    }
    /// With this one.
    #[must_use]
    pub fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | 1 << kind as u8)
    }
    /// Without this one.
    #[must_use]
    pub fn without(self, kind: Kind) -> Kinds {
        Kinds(self.0 & !(1 << kind as u8))
    }
    /// Whether it is among them.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
    /// All of them, in the order of [`KINDS`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        KINDS.iter().map(|(kind, ..)| *kind).filter(move |kind| self.has(*kind))
    }
}

/// Which kinds go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Profile {
    A,
    B,
    C,
    D,
    E,
    F,
    G,
    H,
    I,
}

/// All profiles, and what each is about.
pub const PROFILES: [(Profile, &str); 9] = [
    (Profile::A, "messages are lost and the api dies: the sweeper heals"),
    (Profile::B, "nothing is lost for good, and there is no sweeper"),
    (Profile::C, "each seed draws which kinds of trouble there are"),
    (Profile::D, "overload, then recovery"),
    (Profile::E, "all events come again, at once and late"),
    (Profile::F, "clocks go apart, and launches have little time"),
    (Profile::G, "versions side by side, and messages that nobody can read"),
    (Profile::H, "users and operators change their minds all the time"),
    (Profile::I, "the store as it is: late indexes, conflicts, throttled keys, outages"),
];

/// What nearly every profile has.
const USUAL: [Kind; 12] = [
    Duplicate,
    Crash,
    TwoWorkers,
    Refused,
    Unanswered,
    LostAnswer,
    PartialPublish,
    Mistakes,
    HostDies,
    AgentRestarts,
    StartFails,
    EndsItself,
];

impl Profile {
    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        char::from(b'A' + self as u8)
    }
    /// The profile of this letter.
    #[must_use]
    pub fn of_letter(letter: &str) -> Option<Profile> {
        let is_it = |profile: &Profile| letter.eq_ignore_ascii_case(&profile.letter().to_string());
        PROFILES.iter().map(|(profile, _)| *profile).find(is_it)
    }

    /// All kinds that a history of it may have.
    #[must_use]
    pub fn kinds(self) -> Kinds {
        let more: &[Kind] = match self {
            Profile::A => {
                &[LostMessage, ApiDies, RuleGone, SweeperTwice, SweeperDown, NoPermission]
            }
            Profile::B => &[NoPermission, Throttled, PublishThrottled, StuckGiveBack, Redrive],
            Profile::C => return KINDS.iter().fold(Kinds(0), |set, (kind, ..)| set.with(*kind)),
            Profile::D => &[ManyRefused, Throttled, PublishThrottled, StoreDown, Scarce],
            Profile::E => &[Burst, Reversed, Late, Storm, Redrive],
            Profile::F => &[Skew, Hasty, HostSilent],
            Profile::G => &[UnknownField, LaterVersion, Poison],
            Profile::H => &[Hasty, Redrive, StuckGiveBack, HostSilent, PlaneGone],
            Profile::I => &[LateIndex, HotKey, Conflicts, StoreDown, Scarce],
        };
        more.iter().fold(Kinds::of(&USUAL), |set, kind| set.with(*kind))
    }
}
