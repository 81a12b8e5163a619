//! One instance on a real host: its orders, one after the other, and what happens to it between them.

use super::keeping::{Kept, sweep};
use super::run::{Exit, Plan, Run, RunDir};
use super::service::Service;
use super::{Order, World, place};
use crate::driver::Happened;
use crate::host::Phase;
use crate::metadata::{Details, InstanceFacts};
use crate::restart::{self, End, Next};
use crate::round::now;
use crate::wire::InstanceKey;
use eventplane_domain::{Millis, Reason, code};
use serde::{Deserialize, Serialize};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

/// How soon after a failure the plane is asked again about an instance: from this, doubled to that.
const ASK_AGAIN_MS: (u64, u64) = (200, 30_000);
/// How much of an instance's output is sent, in bytes ("GetConsoleOutput", EC2 API reference, gives
/// the newest 64 KB; ours have to fit into an item).
const CONSOLE_BYTES_MAX: usize = 16 * 1024;
/// How soon it is tried again to end what would not end.
const STOP_AGAIN: Duration = Duration::from_secs(5);

/// What a worker is told.
pub(crate) enum Command {
    /// The agent was started anew: so the instance stood, as it remembers.
    Resume(u32, Phase),
    /// Start this generation of it.
    Start(u32),
    /// Start anew what runs.
    Reboot(u32),
    /// Nothing of it is to run.
    Stop,
    /// Somebody wants to see its output.
    Console,
}

/// How it stands.
enum Standing {
    /// Nothing of it runs.
    Idle,
    /// Its keeper lives.
    Runs(Box<Running>),
    /// Its program has crashed, and is started again then.
    Waits(Instant, Box<Running>),
}

/// What is known of an instance that runs, or is about to run again.
struct Running {
    order: Order,
    plan: Plan,
    /// None while it waits.
    kept: Option<Kept>,
    service: Service,
}

/// Why it is not started again, for an agent that comes after.
#[derive(Serialize, Deserialize)]
struct Ended {
    generation: u32,
    reason: Reason,
}

/// What its metadata service tells, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptFacts {
    generation: u32,
    facts: InstanceFacts,
}

/// The keeper of the orders of one instance.
pub(crate) struct Worker {
    pub(crate) key: InstanceKey,
    pub(crate) dir: RunDir,
    pub(crate) world: Arc<World>,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) tell: UnboundedSender<Happened>,
}

/// A start came to nothing.
enum NotStarted {
    /// It cannot be started here.
    Because(String),
    /// Something else was ordered meanwhile.
    Overtaken(Option<Command>),
}

impl From<std::io::Error> for NotStarted {
    fn from(error: std::io::Error) -> Self {
        NotStarted::Because(error.to_string())
    }
}
impl From<String> for NotStarted {
    fn from(why: String) -> Self {
        NotStarted::Because(why)
    }
}

impl Worker {
    /// Does as it is told, until nobody can tell it more. What runs then runs on.
    pub(crate) async fn run(mut self) {
        let mut standing = Standing::Idle;
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None => tokio::select! {
                    command = self.commands.recv() => match command {
                        Some(command) => command,
                        None => return,
                    },
                    () = due(&mut standing) => {
                        (standing, next) = self.on_due(standing).await;
                        continue;
                    }
                },
            };
            (standing, next) = match command {
                Command::Resume(generation, phase) => self.resume(generation, phase).await,
                Command::Start(generation) => self.begin(standing, generation).await,
                Command::Reboot(generation) => self.reboot(standing, generation).await,
                Command::Stop => (self.stop(standing).await, None),
                Command::Console => {
                    self.send_console(&standing);
                    (standing, None)
                }
            };
        }
    }

    fn told(&self, happened: Happened) {
        // Nobody listens when the agent ends.
        let _ = self.tell.send(happened);
    }

    /// Finds what an agent before this one has left, and goes on from there.
    async fn resume(&mut self, generation: u32, phase: Phase) -> (Standing, Option<Command>) {
        if phase == Phase::LetGo {
            let ended: Option<Ended> = self.dir.read("ended.json").ok().flatten();
            if let Some(ended) = ended.filter(|ended| ended.generation == generation) {
                let Ended { generation, reason } = ended;
                self.told(Happened::Ended(self.key.clone(), generation, reason));
            }
            return (self.stop(Standing::Idle).await, None);
        }
        match self.adopt(generation).await {
            Ok(Some(running)) => {
                info!(instance = %self.key.instance_id, "found running");
                if phase == Phase::Starting {
                    self.told(Happened::Started(self.key.clone(), generation));
                }
                (Standing::Runs(running), None)
            }
            Ok(None) => self.begin(Standing::Idle, generation).await,
            Err(why) => {
                warn!(instance = %self.key.instance_id, %why, "what was left of it cannot be used");
                self.begin(Standing::Idle, generation).await
            }
        }
    }

    /// The instance as an agent before this one has left it: running, or ended since.
    async fn adopt(&mut self, generation: u32) -> Result<Option<Box<Running>>, String> {
        let text = |error: std::io::Error| error.to_string();
        let kept = Kept::find(&self.dir).await.map_err(text)?;
        let run: Option<Run> = self.dir.read("run.json").map_err(text)?;
        let exit: Option<Exit> = self.dir.read("exit.json").map_err(text)?;
        let is_this = kept.is_some() && run.is_some_and(|run| run.generation == generation);
        let has_ended = kept.is_none() && exit.is_some_and(|exit| exit.generation == generation);
        let order: Option<Order> = self.dir.read("order.json").map_err(text)?;
        let plan: Option<Plan> = self.dir.read("plan.json").map_err(text)?;
        let facts: Option<KeptFacts> = self.dir.read("facts.json").map_err(text)?;
        let (Some(order), Some(plan), Some(facts)) = (order, plan, facts) else { return Ok(None) };
        let generations = [order.generation, plan.generation, facts.generation];
        if !(is_this || has_ended) || generations != [generation; 3] {
            return Ok(None);
        }
        // What runs is not ended because something around it is not as it was.
        if let Err(why) = place::network_up(&self.world, &self.key, &order.launch).await {
            warn!(instance = %self.key.instance_id, %why, "its network may not be whole");
        }
        let service = Service::go_on(&self.world, Arc::new(facts.facts), plan.metadata);
        Ok(Some(Box::new(Running { order, plan, kept, service })))
    }

    /// Starts a generation, unless it runs already.
    async fn begin(&mut self, standing: Standing, generation: u32) -> (Standing, Option<Command>) {
        match standing {
            Standing::Idle => {}
            other => drop(self.end(other).await),
        }
        let (why, reason) = match self.start(generation).await {
            Ok(running) => {
                self.told(Happened::Started(self.key.clone(), generation));
                return (Standing::Runs(running), None);
            }
            Err(NotStarted::Overtaken(command)) => return (Standing::Idle, command),
            Err(NotStarted::Because(why)) => {
                let message = format!("{} could not start it: {why}", self.world.config.host_id);
                (why, Reason::new(code::INTERNAL, message))
            }
        };
        warn!(instance = %self.key.instance_id, generation, %why, "not started");
        self.is_over(generation, reason).await;
        (Standing::Idle, None)
    }

    async fn start(&mut self, generation: u32) -> Result<Box<Running>, NotStarted> {
        let order: Option<Order> = self.dir.read("order.json")?;
        let order = order.filter(|order| order.generation == generation);
        let order = order.ok_or_else(|| "its order was not written down".to_owned())?;
        // What a killed agent may have left of another run.
        if let Some(kept) = Kept::find(&self.dir).await? {
            kept.stop(self.grace()).await;
        }
        sweep(&self.dir, &self.key.instance_id).await?;
        let facts = self.facts(&order).await?;
        place::network_up(&self.world, &self.key, &order.launch).await?;
        let service = Service::start(&self.world, facts)?;
        let (plan, kept) = self.run_program(&order, &service, 0).await?;
        Ok(Box::new(Running { order, plan, kept: Some(kept), service }))
    }

    /// What the instance is to know: as it was written down, or as the plane says, which is asked until
    /// it answers, for so long as nothing else is ordered and the deadline allows.
    async fn facts(&mut self, order: &Order) -> Result<Arc<InstanceFacts>, NotStarted> {
        let kept: Option<KeptFacts> = self.dir.read("facts.json")?;
        if let Some(kept) = kept.filter(|kept| kept.generation == order.generation) {
            return Ok(Arc::new(kept.facts));
        }
        let mut wait_ms = ASK_AGAIN_MS.0;
        let details = loop {
            match self.world.link.details(&self.key, order.generation).await {
                Ok(details) => break details,
                Err(why) if now() > order.deadline => {
                    return Err(format!("nobody says what it is to know: {why}").into());
                }
                Err(why) => {
                    warn!(instance = %self.key.instance_id, %why, "its details are missing")
                }
            }
            tokio::select! {
                command = self.commands.recv() => return Err(NotStarted::Overtaken(command)),
                () = sleep(Duration::from_millis(wait_ms)) => {}
            }
            wait_ms = (wait_ms * 2).min(ASK_AGAIN_MS.1);
        };
        self.keep_facts(order, details).map_err(NotStarted::from)
    }

    fn keep_facts(&self, order: &Order, details: Details) -> Result<Arc<InstanceFacts>, String> {
        let launch = order.launch.clone();
        let facts = InstanceFacts { key: self.key.clone(), launch, details };
        let kept = KeptFacts { generation: order.generation, facts };
        self.dir.write("facts.json", &kept).map_err(|error| error.to_string())?;
        Ok(Arc::new(kept.facts))
    }

    /// Runs its program beside its metadata service.
    async fn run_program(
        &self,
        order: &Order,
        service: &Service,
        crashes: u32,
    ) -> Result<(Plan, Kept), String> {
        let facts = service.facts();
        let placed = place::place(&self.world, &self.dir, order, &facts, service.address)?;
        let plan = Plan { crashes, planned_at: now().0, ..placed.plan };
        self.dir.write("plan.json", &plan).map_err(|error| error.to_string())?;
        let kept = Kept::start(&placed.keeper, &self.dir).await?;
        Ok((plan, kept))
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.world.config.restart.stop_grace_ms)
    }

    /// Something is due of itself: an end, a restart, or fresh credentials.
    async fn on_due(&mut self, standing: Standing) -> (Standing, Option<Command>) {
        match standing {
            Standing::Idle => (Standing::Idle, None),
            Standing::Runs(mut running) if running.service.is_stale() => {
                self.refresh(&mut running).await;
                (Standing::Runs(running), None)
            }
            Standing::Runs(running) => (self.on_exit(running).await, None),
            Standing::Waits(_, running) => (self.again(running).await, None),
        }
    }

    /// Its program has ended: what becomes of it, the policy says.
    async fn on_exit(&mut self, mut running: Box<Running>) -> Standing {
        running.kept = None;
        if let Err(error) = sweep(&self.dir, &self.key.instance_id).await {
            warn!(instance = %self.key.instance_id, %error, "what it left may run on");
        }
        let generation = running.order.generation;
        let exit: Option<Exit> = self.dir.read("exit.json").ok().flatten();
        let end = match exit.filter(|exit| exit.generation == generation) {
            Some(Exit { code: Some(code), .. }) => End::Code(code),
            Some(Exit { signal: Some(signal), .. }) => End::Signal(signal),
            _ => End::Unseen,
        };
        let ran_ms = now().since(Millis(running.plan.planned_at));
        match restart::after(end, ran_ms, running.plan.crashes, &self.world.config.restart) {
            Next::Again { wait_ms, crashes } => {
                info!(instance = %self.key.instance_id, ?end, wait_ms, crashes, "starts again");
                running.plan.crashes = crashes;
                Standing::Waits(Instant::now() + Duration::from_millis(wait_ms), running)
            }
            Next::Over(reason) => {
                self.send_console_of(generation);
                place::network_down(&self.world, &self.key).await;
                drop(running);
                self.is_over(generation, reason).await;
                Standing::Idle
            }
        }
    }

    /// It is not started again: written down before it is told, so that an agent that comes after
    /// knows why.
    async fn is_over(&self, generation: u32, reason: Reason) {
        let ended = Ended { generation, reason };
        if let Err(error) = self.dir.write("ended.json", &ended) {
            warn!(instance = %self.key.instance_id, %error, "why it ended is not written down");
        }
        self.told(Happened::Ended(self.key.clone(), generation, ended.reason));
    }

    /// Starts what has run once more. It is not let go of because its host has trouble: it is tried
    /// again, ever more seldom.
    async fn again(&mut self, mut running: Box<Running>) -> Standing {
        let crashes = running.plan.crashes;
        match self.run_program(&running.order, &running.service, crashes).await {
            Ok((plan, kept)) => {
                (running.plan, running.kept) = (plan, Some(kept));
                Standing::Runs(running)
            }
            Err(why) => {
                let wait_ms = self.world.config.restart.wait_ms(crashes);
                warn!(instance = %self.key.instance_id, %why, wait_ms, "could not be started again");
                running.plan.crashes = crashes.saturating_add(1);
                Standing::Waits(Instant::now() + Duration::from_millis(wait_ms), running)
            }
        }
    }

    async fn refresh(&mut self, running: &mut Running) {
        let generation = running.order.generation;
        let asked = self.world.link.details(&self.key, generation).await;
        let kept = asked.and_then(|details| self.keep_facts(&running.order, details));
        if let Err(why) = &kept {
            warn!(instance = %self.key.instance_id, %why, "its credentials are not fresh");
        }
        running.service.refreshed(kept.ok());
    }

    async fn reboot(&mut self, standing: Standing, generation: u32) -> (Standing, Option<Command>) {
        let mut running = match standing {
            Standing::Runs(running) | Standing::Waits(_, running) => running,
            Standing::Idle => return (Standing::Idle, None),
        };
        if running.order.generation != generation {
            return (Standing::Runs(running), None);
        }
        if let Some(kept) = &running.kept {
            kept.stop(self.grace()).await;
        }
        if let Err(error) = sweep(&self.dir, &self.key.instance_id).await {
            warn!(instance = %self.key.instance_id, %error, "what it left may run on");
        }
        running.kept = None;
        running.plan.crashes = 0;
        (self.again(running).await, None)
    }

    /// Ends what runs. Says so only when nothing is left, however long that takes.
    async fn stop(&mut self, standing: Standing) -> Standing {
        let standing = self.end(standing).await;
        self.told(Happened::Stopped(self.key.clone()));
        standing
    }

    async fn end(&mut self, standing: Standing) -> Standing {
        let running = match standing {
            Standing::Idle => None,
            Standing::Runs(running) | Standing::Waits(_, running) => Some(running),
        };
        loop {
            match self.try_to_end(running.as_deref()).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(instance = %self.key.instance_id, %error, "not stopped yet");
                    sleep(STOP_AGAIN).await;
                }
            }
        }
        if let Some(running) = running {
            self.send_console_of(running.order.generation);
        }
        place::network_down(&self.world, &self.key).await;
        Standing::Idle
    }

    async fn try_to_end(&self, running: Option<&Running>) -> std::io::Result<()> {
        if let Some(kept) = running.and_then(|running| running.kept.as_ref()) {
            kept.stop(self.grace()).await;
        }
        while let Some(kept) = Kept::find(&self.dir).await? {
            kept.stop(self.grace()).await;
        }
        sweep(&self.dir, &self.key.instance_id).await
    }

    fn send_console(&self, standing: &Standing) {
        if let Standing::Runs(running) | Standing::Waits(_, running) = standing {
            self.send_console_of(running.order.generation);
        }
    }

    /// Sends the newest output, beside all else.
    fn send_console_of(&self, generation: u32) {
        let (world, key, dir) = (self.world.clone(), self.key.clone(), self.dir.clone());
        tokio::spawn(async move {
            let text = dir.console(CONSOLE_BYTES_MAX);
            if let Err(why) = world.link.console(&key, generation, &text, now().0).await {
                warn!(instance = %key.instance_id, %why, "its output was not taken");
            }
        });
    }
}

/// Waits until something is due of itself.
async fn due(standing: &mut Standing) {
    match standing {
        Standing::Idle => pending().await,
        Standing::Waits(until, _) => sleep_until(*until).await,
        Standing::Runs(running) => {
            let stale = running.service.stale_at();
            match &running.kept {
                None => {}
                Some(kept) => tokio::select! {
                    () = kept.ended() => {}
                    () = sleep_until(stale) => {}
                },
            }
        }
    }
}
