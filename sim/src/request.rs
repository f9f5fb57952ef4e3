//! What is asked for on the command line.

use crate::exhaustive::Depth;

pub const USAGE: &str = "usage: cargo xtask sim [OPTIONS]

with nothing: the named seeds, every scenario at every turn, and 5,000 random worlds

  --seeds N           so many random worlds, and nothing else
  --from S            the first of them (default 1)
  --exhaustive        every scenario at every turn, and nothing else
  --deep              with it: crashes at every turn of ten recoveries of each scenario
  --scenario NAME     one scenario at every turn
  --case N            one case of it, with its log
  --seed S            one random world, twice: both must go the same way
  --trace             with its log
  --shrink            leaves out hosts' jobs and faults while it still fails
  --regressions       the named seeds of sim/seeds
  --sabotage          plants defects: each must be found
  --plant DEFECT      with any of these, in a build with planted defects: plants one
  --threads N         how many worlds at once (default: one per processor)";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// What CI runs.
    Everything {
        /// How many random worlds.
        seeds: u64,
        /// The first.
        from: u64,
    },
    /// All scenarios.
    Exhaustive,
    /// One scenario, or one case of it.
    Scenario {
        /// Its name.
        name: String,
        /// Its case.
        case: Option<usize>,
    },
    /// Random worlds.
    Random {
        /// How many.
        seeds: u64,
        /// The first.
        from: u64,
    },
    /// One random world.
    Seed {
        /// Which.
        seed: u64,
        /// Whether to make it smaller.
        smaller: bool,
    },
    /// The named seeds.
    Regressions,
    /// Planted defects.
    Sabotage,
    /// What can be asked for.
    Help,
}

/// What is to be done, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub task: Task,
    /// How much of it.
    pub depth: Depth,
    /// Whether to show logs.
    pub traced: bool,
    /// The defect to plant.
    pub plant: Option<String>,
    /// How many worlds at once.
    pub threads: usize,
}

/// Random worlds of a run that says nothing else.
const SEEDS: u64 = 5000;

impl Request {
    /// What `args` ask for.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn parse(args: &[String]) -> Result<Request, String> {
        let (mut depth, mut traced, mut smaller) = (Depth::Usual, false, false);
        let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut seeds, mut from, mut seed, mut name, mut case, mut task) = (None, 1, None, None, None, None);
        let mut plant = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || -> Result<u64, String> {
                let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
                text.parse().map_err(|_| format!("{arg} {text}: no number"))
            };
            match arg.as_str() {
                "--seeds" => seeds = Some(number()?),
                "--from" => from = number()?,
                "--seed" => seed = Some(number()?),
                "--case" => case = Some(usize::try_from(number()?).map_err(|e| e.to_string())?),
                "--threads" => threads = usize::try_from(number()?).map_err(|e| e.to_string())?.max(1),
                "--scenario" => name = Some(args.next().ok_or("--scenario needs a name")?.clone()),
                "--plant" => plant = Some(args.next().ok_or("--plant needs a name")?.clone()),
                "--deep" => depth = Depth::Deep,
                "--trace" => traced = true,
                "--shrink" => smaller = true,
                "--exhaustive" => task = Some(Task::Exhaustive),
                "--regressions" => task = Some(Task::Regressions),
                "--sabotage" => task = Some(Task::Sabotage),
                "--help" | "-h" => task = Some(Task::Help),
                other => return Err(format!("{other}: no such option")),
            }
        }
        let task = match (task, name, seed, seeds) {
            (Some(task), ..) => task,
            (None, Some(name), ..) => Task::Scenario { name, case },
            (None, None, Some(seed), _) => Task::Seed { seed, smaller },
            (None, None, None, Some(seeds)) => Task::Random { seeds, from },
            (None, None, None, None) => Task::Everything { seeds: SEEDS, from },
        };
        Ok(Request { task, depth, traced, plant, threads })
    }
}
