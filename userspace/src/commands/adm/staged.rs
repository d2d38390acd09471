//! `up` and `adjust`: work on several resources, stage by stage.

use super::runner::{Errors, GaveUp};
use super::select::Selected;
use super::{register, show, Ending, Session, MISUSED};
use crate::adjust::call::Maker;
use crate::adjust::diff;
use crate::adjust::plan::{Plan, Register, Stage, Step};
use crate::config::model::Config;
use crate::config::parser;
use crate::config::source::Invalid;

/// Exit code of drbdmeta if it finds no metadata.
const NO_METADATA: u8 = 1;
/// How often `-v` must be given for the decisions of adjust to be explained.
const EXPLAINING: u8 = 3;

/// Creates, attaches and connects the selected resources.
pub(super) fn up(session: &Session<'_>, selected: &[Selected<'_>]) -> Ending {
    let mut plan = Plan::default();
    for one in selected {
        plan.up(&session.maker(one.view), one.one_volume);
    }
    carry_out(session, &plan, false)
}

/// Makes the kernel agree with the configuration of the selected resources.
///
/// With the option `--diff` the differences are printed and nothing is changed.
pub(super) fn adjust(session: &Session<'_>, selected: &[Selected<'_>]) -> Ending {
    let wants_diff = session
        .invocation
        .backend
        .iter()
        .any(|option| option == "--diff");
    let mut plan = Plan::default();
    for one in selected {
        let maker = session.maker(one.view);
        let difference = match running(session, &maker) {
            Ok(config) => {
                let name = maker.view.name();
                let mut all = config.resources.iter();
                diff::compare(&maker, all.find(|resource| resource.name.text == name))
            }
            Err(code) => return Ok(code),
        };
        for line in difference.changes.iter().flat_map(diff::Change::describe) {
            if wants_diff {
                println!("{}: {line}", one.view.name());
            } else if session.general().verbose >= EXPLAINING {
                eprintln!("{}: {line}", one.view.name());
            }
        }
        plan.adjust(&maker, &difference);
    }
    if wants_diff {
        return Ok(0);
    }
    let wants_progress = session.command().name == "adjust-with-progress";
    carry_out(
        session,
        &plan,
        wants_progress && !session.runner.is_talkative(),
    )
}

/// Returns what the kernel runs under the name of the resource.
fn running(session: &Session<'_>, maker: &Maker<'_>) -> Result<Config, u8> {
    let text = session
        .runner
        .silently(maker.view.name(), &maker.show())
        .unwrap_or_default();
    let mut config = Config::default();
    match parser::parse_running(&mut config, maker.view.name(), text) {
        Ok(()) => Ok(config),
        Err(error) => {
            show(&config.sources, &[error]);
            Err(Invalid::CONFIGURATION)
        }
    }
}

/// What became of the steps of one stage, for the progress lines.
#[derive(Default)]
struct Progress {
    is_wanted: bool,
    last: String,
}

impl Progress {
    fn open(&self) {
        if self.is_wanted {
            print!("[");
        }
    }

    fn stage(&mut self, stage: Stage) {
        self.last.clear();
        if self.is_wanted {
            print!("\n{:>15}:", stage.name());
        }
    }

    fn step(&mut self, resource: &str) {
        if self.is_wanted && self.last != resource {
            print!(" {resource}");
        }
        self.last = resource.to_owned();
    }

    fn failed(&self, command: &str, code: u8) {
        if self.is_wanted {
            print!(":failed({command}:{code})");
        }
    }

    fn skipped(&self, resource: &str) {
        if self.is_wanted {
            print!(" [skipped:{resource}]");
        }
    }

    fn close(&self) {
        if self.is_wanted {
            println!("\n]");
        }
    }
}

/// Runs the steps of the plan. Failures do not keep other resources from starting.
fn carry_out(session: &Session<'_>, plan: &Plan, with_progress: bool) -> Ending {
    let mut progress = Progress {
        is_wanted: with_progress,
        last: String::new(),
    };
    let mut given_up: Vec<&str> = Vec::new();
    let mut code = 0;
    progress.open();
    for stage in Stage::ALL {
        let steps: Vec<&Step> = plan.stage(stage).collect();
        if steps.is_empty() {
            continue;
        }
        progress.stage(stage);
        for step in steps {
            if given_up.contains(&step.resource.as_str()) {
                skip(session, step, &progress);
                continue;
            }
            progress.step(&step.resource);
            if let Some((command, result)) = run_step(session, step, with_progress)? {
                progress.failed(command, result);
                code = MISUSED;
                if stage.is_vital() {
                    given_up.push(&step.resource);
                }
            }
        }
    }
    progress.close();
    Ok(code)
}

fn skip(session: &Session<'_>, step: &Step, progress: &Progress) {
    progress.skipped(&step.resource);
    if !progress.is_wanted {
        eprintln!(
            "{}: {} {}: skipped due to earlier error",
            session.program, step.command, step.resource
        );
    }
}

/// Runs the calls of one step until one fails. Returns that one's command and exit code.
fn run_step<'s>(
    session: &Session<'_>,
    step: &'s Step,
    with_progress: bool,
) -> Result<Option<(&'s str, u8)>, GaveUp> {
    let errors = if with_progress {
        Errors::Hidden
    } else {
        Errors::Shown
    };
    for call in &step.calls {
        let code = session.runner.run_with(&step.resource, call, errors)?.code;
        if code != 0 {
            if call.command() == "apply-al" && code == NO_METADATA && !with_progress {
                hint_metadata(session, step);
            }
            return Ok(Some((call.command(), code)));
        }
    }
    if step.register != Register::No && !session.runner.is_dry() {
        register::register(step.register, &step.resource, &session.config_path);
    }
    Ok(None)
}

/// After a failed replay of the activity log: most often there is no metadata yet.
fn hint_metadata(session: &Session<'_>, step: &Step) {
    eprintln!(
        "hint: if the disk of resource {0} is new, run '{1} create-md {0}' first",
        step.resource, session.program
    );
}
