//! Random calls against the reference model (`xpu-agent/tests/api/reference.rs`) on a real machine:
//! after every one the answers, the store, the kernel and FRR equal it, and so they do after the
//! agent is killed and started again.
//!
//! The seed of a run is printed with what fails; `XPU_MODEL_SEED` runs it again.

mod generate;
mod sight;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use proptest::{
    collection::vec,
    prelude::Strategy,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;
use xpu_tests::guest::{
    agent::{self, Agent},
    command::parse_json,
    http,
    topology::Topology,
    wait::wait_until,
};

use self::{generate::Step, sight::Sight};
use crate::{
    CONVERGENCE,
    calls::{BRIDGE_PORT, Call, HttpCall, KINDS, Kind, LOGICAL_BRIDGE, SVI, VRF},
    reference::{Answer, Reference},
};

/// Random calls of a run. Each takes a second or two on an emulated processor.
const CALLS: usize = 60;

/// A netdev that stands for a VF on the xPU, and the MAC that ports find it by.
struct Netdev(u8);

const NETDEVS: [Netdev; 6] = [
    Netdev(1),
    Netdev(2),
    Netdev(3),
    Netdev(4),
    Netdev(5),
    Netdev(6),
];

impl Netdev {
    fn name(&self) -> String {
        format!("model{}", self.0)
    }

    fn mac(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.0)
    }
}

/// The agent over HTTP, and what it must have.
struct Play {
    topology: Topology,
    agent: Option<Agent>,
    config: String,
    reference: Reference,
    /// How often a call was done, or refused and how.
    tally: BTreeMap<String, usize>,
}

impl Play {
    fn start() -> Result<Self> {
        let topology = Topology::clean()?;
        let mut config = Agent::lab_config()?;
        let mut devices = String::new();
        for netdev in &NETDEVS {
            // It goes with the next test's clean start, as all on the xPU that is not its own.
            devices.push_str(&format!("link add {} type dummy\n", netdev.name()));
            config.push_str(&format!("\"{}\" = \"{}\"\n", netdev.mac(), netdev.name()));
        }
        topology.xpu.ip_batch(&devices)?;
        config.push_str("[access]\nloopback = \"admin\"\n");
        let agent = Some(Agent::start(&topology.xpu, &config)?);
        Ok(Self {
            topology,
            agent,
            config,
            reference: Reference::default(),
            tally: BTreeMap::new(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Call(call) => {
                let expected = self.reference.apply(call);
                let answer = self.call(call)?;
                ensure!(answer == expected, "answered {answer:?}, not {expected:?}");
                let outcome = match &answer {
                    Ok(_) => "done".to_owned(),
                    Err((code, field)) => format!("{code:?} {}", field.as_deref().unwrap_or("")),
                };
                *self.tally.entry(outcome).or_insert(0) += 1;
            }
            Step::Restart => {
                self.agent.take().context("no agent")?.kill()?;
                self.agent = Some(Agent::start(&self.topology.xpu, &self.config)?);
            }
        }
        self.compare()
    }

    /// Store and machine against the reference.
    fn compare(&self) -> Result<()> {
        wait_until(
            "all that is stored is as the model has it, and up",
            CONVERGENCE,
            || KINDS.iter().try_for_each(|kind| self.is_stored(*kind)),
        )?;
        let expected = Sight::of_specs(&self.reference);
        wait_until("the machine is as the model says", CONVERGENCE, || {
            let found = Sight::of_machine(&self.topology)?;
            ensure!(
                found == expected,
                "it is\n{found:#?}\nand should be\n{expected:#?}"
            );
            Ok(())
        })
    }

    fn is_stored(&self, kind: Kind) -> Result<()> {
        let list = self.request(&Call::List(kind, 0, String::new()))?;
        let list = list.map_err(|error| anyhow::anyhow!("List: {error}"))?;
        let objects = list[kind.collection]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let found: Vec<_> = objects
            .iter()
            .map(|it| (it["name"].as_str(), &it["spec"]))
            .collect();
        let expected: Vec<_> = self.reference.of(kind).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(id, spec)| (format!("{}/{id}", kind.collection), *spec))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, spec)| (Some(name.as_str()), *spec))
            .collect();
        ensure!(
            found == expected,
            "stored is {found:?}, and should be {expected:?}"
        );
        for object in objects {
            let state = object["status"]["operStatus"].as_str().unwrap_or_default();
            ensure!(
                state.ends_with("_UP"),
                "{} is {}",
                object["name"],
                object["status"]
            );
        }
        Ok(())
    }

    fn call(&self, call: &Call) -> Result<Answer> {
        Ok(match self.request(call)? {
            Ok(object) => Ok(object.get("spec").cloned()),
            Err(refusal) => {
                let code = refusal["code"]
                    .as_i64()
                    .and_then(|it| i32::try_from(it).ok());
                let code = tonic::Code::from_i32(code.context("no code")?);
                let details = refusal["details"].as_array().into_iter().flatten();
                let mut fields =
                    details.filter_map(|it| it["fieldViolations"][0]["field"].as_str());
                Err((code, fields.next().map(str::to_owned)))
            }
        })
    }

    /// The answer, or the refusal.
    fn request(&self, call: &Call) -> Result<Result<Value, Value>> {
        let HttpCall { method, path, body } = call.http();
        let (status, answer) = http::send(&self.topology.xpu, method, &path, body.as_ref())?;
        let answer = parse_json(&path, &answer)?;
        Ok(if status == 200 {
            Ok(answer)
        } else {
            Err(answer)
        })
    }
}

/// The steps of a seed.
fn steps(seed: u64) -> Result<Vec<Step>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let random = vec(generate::step(), CALLS).new_tree(&mut runner);
    let random = random.map_err(anyhow::Error::msg)?.current();
    Ok(generate::first().into_iter().chain(random).collect())
}

fn seed() -> Result<u64> {
    match std::env::var("XPU_MODEL_SEED") {
        Ok(seed) => seed
            .parse()
            .with_context(|| format!("XPU_MODEL_SEED={seed}")),
        Err(_) => Ok(std::time::UNIX_EPOCH.elapsed()?.subsec_nanos().into()),
    }
}

#[test]
fn answers_store_kernel_and_frr_equal_the_model() -> Result<()> {
    let seed = seed()?;
    let steps = steps(seed)?;
    let mut play = Play::start()?;
    play.compare().context("before the first call")?;
    let mut most = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        play.step(step).with_context(|| {
            let log = agent::log_tail();
            format!(
                "XPU_MODEL_SEED={seed}: step {number}, {step:?}; the steps are\n{steps:#?}\n{log}"
            )
        })?;
        for kind in KINDS {
            let count = play.reference.of(kind).count();
            let most = most.entry(kind.message).or_insert(0);
            *most = count.max(*most);
        }
    }
    println!("XPU_MODEL_SEED={seed}: at most {most:?}, {:?}", play.tally);
    // What is left goes, in the order of who refers to whom.
    for kind in [BRIDGE_PORT, SVI, LOGICAL_BRIDGE, VRF] {
        let names: Vec<_> = play
            .reference
            .of(kind)
            .map(|(id, _)| id.to_owned())
            .collect();
        for name in names {
            play.step(&Step::Call(Call::Delete(kind, name, false)))
                .with_context(|| format!("XPU_MODEL_SEED={seed}: at the end"))?;
        }
    }
    Ok(())
}
