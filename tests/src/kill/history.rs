//! What clients asked, and what they were answered: all that the checker knows of a plane.

use eventplane_domain::State;

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it was sent, in microseconds since the history began.
    pub begun: u64,
    /// When its answer was there, or it was clear that none would come.
    pub ended: u64,
    /// What was asked.
    pub ask: Ask,
    /// What was answered.
    pub got: Got,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A launch. Its label, a tag, stands for its parameters: another label is another request.
    Launch {
        /// The client token.
        token: Option<String>,
        /// The tag that all its instances carry.
        label: String,
        /// How many instances.
        count: usize,
    },
    /// One instance as it is.
    Show(String),
    /// All instances, page by page.
    List,
    /// Something of one instance.
    Do(Verb, String),
}

/// What may be asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Start,
    Stop,
    Reboot,
    Terminate,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// Nothing, or that it may have been done (503).
    Unknown,
    /// That it was not done: the status, and the error's code.
    Refused(u16, String),
    /// The instances that a launch began, a list has, or the one that was shown.
    Seen(Vec<Seen>),
    /// The state before and after a verb.
    Changed(State, State),
}

/// An instance as an answer showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// The label that it was launched with.
    pub label: String,
    /// Its state.
    pub state: State,
    /// Its generation.
    pub generation: u32,
    /// Whether its state is what a user asked for, and not what the plane had to do.
    pub by_user: bool,
}

impl Call {
    /// Whether it may have changed something: it was done, or nobody knows.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        match &self.got {
            Got::Unknown | Got::Seen(_) => true,
            Got::Refused(..) => false,
            Got::Changed(before, now) => before != now,
        }
    }

    /// Whether it had ended before `other` began.
    #[must_use]
    pub fn is_before(&self, other: &Call) -> bool {
        self.ended < other.begun
    }
}
