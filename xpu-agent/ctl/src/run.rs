//! The way from the grammar to the verbs.

use std::collections::BTreeSet;
use std::time::Duration;

use xpu_model::{Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::{BridgePort, LogicalBridge, Svi, Vrf};

use crate::apply::{Apply, Wanted};
use crate::cli::{Cli, Command, KindWord, Output, key};
use crate::commands::{Session, Verb};
use crate::connect::{When, connect};
use crate::create::Create;
use crate::doctor::Doctor;
use crate::export::Which;
use crate::failure::Failure;
use crate::manifest::{BridgePortText, LogicalBridgeText, SviText, VrfText};
use crate::remote::Agent;
use crate::screen::Colour;
use crate::settings::Settings;
use crate::topology::Form;
use crate::update::{Masked, Update};
use crate::wait::Goal;
use crate::{complete, man};

/// How long one call may take, if nobody says.
const CALL: Duration = Duration::from_secs(10);

/// How long `wait` waits, if nobody says.
const WAIT: Duration = Duration::from_secs(60);

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Completion { shell } => return complete::script(shell),
        Command::Man { dir } => return man::pages(dir.as_deref()),
        _ => {}
    }
    let action = check(cli.command)?;
    let settings = cli.settings.settle().map_err(Failure::Settings)?;
    let timeout = cli.timeout.unwrap_or(CALL);
    if let Action::Doctor(doctor) = action {
        return block_on(doctor.run(settings, timeout, cli.color));
    }
    let when = match action {
        Action::Wait(..) | Action::Watch(..) => When::Needed,
        _ => When::Now,
    };
    block_on(async {
        let session = Session {
            output: cli.output,
            colour: cli.color,
            ..Session::open(settings, timeout, when).await?
        };
        act(&session, action, cli.timeout.unwrap_or(WAIT)).await
    })
}

/// Runs one thing to its end, on this thread.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(Failure::Runtime)?.block_on(work)
}

impl Session {
    /// Connects, with the usual output.
    pub async fn open(settings: Settings, timeout: Duration, when: When) -> Result<Self, Failure> {
        let channel = connect(&settings, timeout, when).await?;
        Ok(Self {
            agent: Agent { channel, timeout },
            endpoint: settings.address.text,
            output: Output::Table,
            colour: Colour::Auto,
        })
    }
}

/// What is to be done, once the command line is known to be right.
enum Action {
    Apply(Apply),
    Diff(Wanted),
    Create(Create),
    Update(Update),
    Existing(Kind, Verb),
    Watch(Kind, Option<ObjectKey>, Duration),
    Wait(Kind, Vec<ObjectKey>, Goal),
    Export(Vec<Kind>, Which),
    Topology(Form),
    Doctor(Doctor),
    Nothing,
}

fn check(command: Command) -> Result<Action, Failure> {
    let kind = |word: KindWord| Kind::from(word);
    Ok(match command {
        Command::Apply(flags) => Action::Apply(flags),
        Command::Diff(wanted) => Action::Diff(wanted),
        Command::Create(what) => Action::Create(what),
        Command::Update(what) => Action::Update(what),
        Command::Get(one) => Action::Existing(kind(one.kind), Verb::Get(one.key()?)),
        Command::Describe(one) => Action::Existing(kind(one.kind), Verb::Describe(one.key()?)),
        Command::List { kind } => Action::Existing(kind.into(), Verb::List),
        Command::Delete { one, allow_missing } => {
            let verb = Verb::Delete {
                key: one.key()?,
                allow_missing,
            };
            Action::Existing(kind(one.kind), verb)
        }
        Command::Watch {
            kind,
            name,
            interval,
        } => {
            let key = name.map(|name| key(kind, &name)).transpose()?;
            Action::Watch(kind.into(), key, interval)
        }
        Command::Wait { kind, names, goal } => {
            let keys = names.iter().map(|name| key(kind, name));
            Action::Wait(kind.into(), keys.collect::<Result<_, _>>()?, goal)
        }
        Command::Export { kinds, which } => {
            let kinds: BTreeSet<_> = kinds.into_iter().map(Kind::from).collect();
            let named = |kind: &Kind| kinds.is_empty() || kinds.contains(kind);
            Action::Export(Kind::ALL.into_iter().filter(named).collect(), which)
        }
        Command::Topology { form } => Action::Topology(form),
        Command::Doctor(doctor) => Action::Doctor(doctor),
        // Done already, without settings.
        Command::Completion { .. } | Command::Man { .. } => Action::Nothing,
    })
}

/// Calls a method that is generic over the kind's message.
macro_rules! for_kind {
    ($kind:expr, $session:ident.$method:ident($($argument:expr),*)) => {
        match $kind {
            Kind::Vrf => $session.$method::<Vrf>($($argument),*).await,
            Kind::LogicalBridge => $session.$method::<LogicalBridge>($($argument),*).await,
            Kind::BridgePort => $session.$method::<BridgePort>($($argument),*).await,
            Kind::Svi => $session.$method::<Svi>($($argument),*).await,
        }
    };
}

async fn act(session: &Session, action: Action, limit: Duration) -> Result<(), Failure> {
    match action {
        Action::Apply(flags) => session.apply(&flags).await,
        Action::Diff(wanted) => session.diff(&wanted).await,
        Action::Create(what) => create(session, what).await,
        Action::Update(what) => update(session, what).await,
        Action::Existing(kind, verb) => for_kind!(kind, session.run(verb)),
        Action::Watch(kind, key, interval) => {
            for_kind!(kind, session.watch(key.as_ref(), interval))
        }
        Action::Wait(kind, keys, goal) => for_kind!(kind, session.wait(&keys, goal, limit)),
        Action::Export(kinds, which) => session.export(&kinds, which).await,
        Action::Topology(form) => session.topology(form).await,
        Action::Doctor(_) | Action::Nothing => Ok(()),
    }
}

async fn create(session: &Session, what: Create) -> Result<(), Failure> {
    match what {
        Create::Vrf(flags) => {
            let id = flags.id.text();
            session.create(id, Vrf::from(VrfText::from(flags))).await
        }
        Create::LogicalBridge(flags) => {
            let (id, spec) = (flags.id.text(), LogicalBridgeText::from(flags));
            session.create(id, LogicalBridge::from(spec)).await
        }
        Create::BridgePort(flags) => {
            let (id, spec) = (flags.id.text(), BridgePortText::from(flags));
            session.create(id, BridgePort::from(spec)).await
        }
        Create::Svi(flags) => {
            let id = flags.id.text();
            session.create(id, Svi::from(SviText::from(flags))).await
        }
    }
}

async fn update(session: &Session, what: Update) -> Result<(), Failure> {
    match what {
        Update::Vrf(flags) => session.update(Masked::from(flags)).await,
        Update::LogicalBridge(flags) => session.update(Masked::from(flags)).await,
        Update::BridgePort(flags) => session.update(Masked::from(flags)).await,
        Update::Svi(flags) => session.update(Masked::from(flags)).await,
    }
}
