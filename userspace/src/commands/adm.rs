//! drbdadm: the tool that knows the configuration file.
//!
//! It reads the configuration, finds out what the command means for this node, and calls
//! drbdsetup and drbdmeta. Behaviour, messages and exit codes: `reference/userland.md 2`.

mod args;
mod handler;
mod help;
mod hint;
mod register;
mod runner;
mod select;
mod sh;
mod staged;
mod table;
mod version;
mod wait;
mod work;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use args::{General, Invocation, Misuse, Request};
use runner::{GaveUp, Runner, CANNOT_RUN};
use select::{Mismatch, Selected};
use table::{Command, Listed, Scope};

use crate::adjust::call::{Call, Limit, Maker};
use crate::config::local::Node;
use crate::config::model::Config;
use crate::config::resolve::{address_place, resolve, View};
use crate::config::source::{Diagnostic, Invalid, Severity, Sources};
use crate::config::{self, check, print, print_xml};

/// Environment variable that tells a helper that it was started by drbdadm.
pub(crate) const HELPER: &str = "DRBD_HELPER";

/// Exit code for a usage error, an unknown resource, or a failed stage.
const MISUSED: u8 = 1;

/// Exit code or the decision to give up at once.
type Ending = Result<u8, GaveUp>;

/// Runs drbdadm with the words behind its name and returns its exit code.
pub(crate) fn run(program: &str, words: &[String]) -> u8 {
    let request = match args::parse(program, words) {
        Ok(request) => request,
        Err(misuse) => return explain(program, &misuse),
    };
    let ending = match request {
        Request::Help(command) => {
            print!("{}", help::usage(program, command));
            Ok(0)
        }
        Request::Version => {
            version::print();
            Ok(0)
        }
        Request::Run(invocation) => dispatch(program, &invocation),
    };
    let _ = std::io::stdout().flush();
    ending.unwrap_or(CANNOT_RUN)
}

fn explain(program: &str, misuse: &Misuse) -> u8 {
    match misuse {
        Misuse::NoCommand => {
            print!("{}", help::usage(program, None));
            println!("No command specified");
        }
        Misuse::NoResource(command) => {
            print!("{}", help::usage(program, table::find(command)));
            println!("No resource names specified");
        }
        Misuse::Text(text) => eprintln!("{text}"),
    }
    MISUSED
}

/// Everything a command works with.
struct Session<'s> {
    program: &'s str,
    invocation: &'s Invocation,
    config: &'s Config,
    views: &'s [View<'s>],
    node: &'s str,
    runner: Runner,
    config_path: PathBuf,
}

impl Session<'_> {
    fn command(&self) -> &'static Command {
        self.invocation.command
    }

    /// Tells whether this option is passed on to drbdsetup.
    fn passes(&self, option: &str) -> bool {
        self.invocation.backend.iter().any(|word| word == option)
    }

    fn general(&self) -> &General {
        &self.invocation.general
    }

    fn maker<'m>(&'m self, view: &'m View<'m>) -> Maker<'m> {
        Maker {
            views: self.views,
            view,
            node: self.node,
        }
    }
}

fn dispatch(program: &str, invocation: &Invocation) -> Ending {
    let command = invocation.command;
    if let Some(old) = &invocation.old_name {
        eprintln!(
            "'{program} {old}' is deprecated, use '{program} {}' instead.",
            command.name
        );
    }
    if command.name == "hidden-commands" {
        print!("{}", help::hidden());
        return Ok(0);
    }
    let node = Node::this(node_name());
    let general = &invocation.general;
    let file = match command.listed {
        Listed::Handler => handler::config_file(invocation),
        _ => general.config.clone(),
    };
    let loaded = config::load(file.as_deref(), general.config_to_test.as_deref());
    let sources = &loaded.config.sources;
    show(sources, &loaded.warnings);
    if let Some(invalid) = &loaded.invalid {
        show(sources, &invalid.diagnostics);
        return Ok(invalid.code);
    }
    version::warn_about_series();
    let expanded = loaded.config.expanded();
    let kernel_peer = handler::peer().filter(|_| command.listed == Listed::Handler);
    let peer = general.peer.as_deref().or(kernel_peer.as_deref());
    let views = match resolve(&expanded, &node, peer) {
        Ok(views) => views,
        Err(errors) => return Ok(refuse(sources, &errors)),
    };
    let wrong = check::check_views(&views);
    if !wrong.is_empty() {
        return Ok(refuse(sources, &wrong));
    }
    let own_name = std::env::args_os().next().unwrap_or_default();
    let own_name = own_name.to_string_lossy();
    let runner = match Runner::new(&own_name, general, &expanded.global) {
        Ok(runner) => runner,
        Err(text) => {
            eprintln!("{text}");
            return Ok(CANNOT_RUN);
        }
    };
    let config_path = expanded.sources.main().map(|source| source.path.clone());
    let session = Session {
        program,
        invocation,
        config: &expanded,
        views: &views,
        node: &node.name,
        runner,
        config_path: config_path.unwrap_or_default(),
    };
    if matches!(command.name, "dump" | "dump-xml") {
        return dump(&session, &loaded.config, &node);
    }
    execute(&session, &node)
}

/// Prints complaints and returns the exit code for a configuration that cannot be used.
fn refuse(sources: &Sources, errors: &[Diagnostic]) -> u8 {
    show(sources, errors);
    Invalid::CONFIGURATION
}

fn show(sources: &Sources, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        eprint!("{}", diagnostic.render(sources));
    }
}

/// Returns the name of this node: that of the system, or the one a test wants.
fn node_name() -> String {
    if let Some(name) = std::env::var_os("__DRBD_NODE__") {
        let name = name.to_string_lossy().into_owned();
        eprintln!("\n   found __DRBD_NODE__ in environment");
        eprintln!("   PRETENDING that I am >>{name}<<\n");
        return name;
    }
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Runs a command on the resources it names.
fn execute(session: &Session<'_>, node: &Node) -> Ending {
    let command = session.command();
    let names = &session.invocation.names;
    if command.scope == Scope::Nothing && !names.is_empty() {
        eprintln!("This command will ignore resource names!");
    }
    let copes_with_nothing = matches!(command.name, "sh-nop" | "sh-resources");
    if session.views.is_empty() && !copes_with_nothing {
        eprintln!("no resources defined!");
        return Ok(MISUSED);
    }
    match command.scope {
        Scope::Nothing => return global_command(session),
        Scope::Handler => return handler::run(session),
        Scope::Resource | Scope::ResourceOrVolume | Scope::Volume | Scope::OneVolume => {}
    }
    let (selected, misnamed) = selection(session);
    if selected.is_empty() {
        return Ok(misnamed);
    }
    let code = prepare(session, node, &selected);
    if code != 0 {
        return Ok(code);
    }
    let code = match command.name {
        "up" => staged::up(session, &selected)?,
        "adjust" | "adjust-with-progress" => staged::adjust(session, &selected)?,
        "status" if selected.len() > 1 && session.passes("--json") => status_of_all(session)?,
        _ => each(session, &selected)?,
    };
    Ok(code.max(misnamed))
}

fn global_command(session: &Session<'_>) -> Ending {
    match session.command().name {
        "sh-resources" => sh::resources(session),
        "sh-mod-parms" => sh::module_parameters(session),
        "sh-status" => return sh::status(session),
        "wait-con-int" => wait::interactively(session),
        _ => {}
    }
    Ok(0)
}

/// Finds the resources that are named, and the exit code for names that mean nothing.
fn selection<'s>(session: &'s Session<'s>) -> (Vec<Selected<'s>>, u8) {
    let command = session.command();
    let names = &session.invocation.names;
    let stacked = session.general().stacked;
    if names.is_empty() || names.iter().any(|name| name == "all") {
        let selected = all(session.views, stacked);
        if selected.is_empty() {
            nothing_here(session);
            return (selected, MISUSED);
        }
        let unfit: Vec<Mismatch> = selected
            .iter()
            .filter_map(|one| select::fitting(command, one.clone()).err())
            .collect();
        for mismatch in &unfit {
            eprintln!("{}", mismatch.text());
        }
        // Nobody chose among these: where one does not fit, none is touched.
        return match unfit.is_empty() {
            true => (selected, 0),
            false => (Vec::new(), MISUSED),
        };
    }
    let mut selected = Vec::new();
    let mut code = 0;
    for name in names {
        match select::select(command, session.views, name, stacked) {
            Ok(one) => selected.push(one),
            Err(Mismatch::Unknown(text)) => {
                eprintln!("{text}");
                return (selected, MISUSED);
            }
            Err(Mismatch::Unfit(text)) => {
                eprintln!("{text}");
                code = MISUSED;
            }
        }
    }
    (selected, code)
}

fn all<'s>(views: &'s [View<'s>], stacked: bool) -> Vec<Selected<'s>> {
    let fits = |view: &&View<'_>| !view.is_ignored() && view.is_stacked() == stacked;
    let whole = |view: &'s View<'s>| Selected {
        view,
        volumes: view.volumes(),
        one_volume: None,
    };
    views.iter().filter(fits).map(whole).collect()
}

/// Says that this node has no part in any resource, and which names the resources use.
fn nothing_here(session: &Session<'_>) {
    if session.general().stacked {
        let node = session.node;
        eprintln!("WARN: nothing stacked for this host ({node}), nothing to do in stacked mode!");
        return;
    }
    eprintln!(
        "WARN: no normal resources defined for this host ({})!?",
        session.node
    );
    if session.views.iter().all(|view| !view.is_ignored()) {
        return;
    }
    eprintln!("Misspelled name of the local machine with the 'on' keyword ?");
    for view in session.views.iter().filter(|view| view.is_ignored()) {
        let names: Vec<&str> = view
            .sides
            .iter()
            .flat_map(|side| side.names.clone())
            .collect();
        if !names.is_empty() {
            eprintln!("hint: resource {} is on: {}", view.name(), names.join(", "));
        }
    }
}

/// Checks what the command needs of the selected resources. Returns 0 if all is well.
fn prepare(session: &Session<'_>, node: &Node, selected: &[Selected<'_>]) -> u8 {
    let command = session.command();
    let sources = &session.config.sources;
    let views = selected.iter().map(|one| one.view);
    let mut wrong = Vec::new();
    if command.checks_ip && checks_ip(session) {
        wrong.extend(views.clone().filter_map(|view| wrong_address(view, node)));
    }
    let is_dry = session.runner.is_dry();
    if command.needs_peer {
        for view in views.clone() {
            let Some(text) = &view.no_peer else {
                continue;
            };
            let missing = config::resolve::about(view.resource, text, "which host is the peer?");
            if is_dry {
                show(sources, &[missing]);
            } else {
                wrong.push(missing);
            }
        }
    }
    let uses_disk_options = matches!(
        command.name,
        "up" | "attach" | "adjust" | "adjust-with-progress"
    );
    if uses_disk_options {
        let complaints: Vec<Diagnostic> = views
            .flat_map(|view| session.maker(view).complaints())
            .collect();
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            wrong.extend(complaints);
        } else {
            // At boot the other resource may be absent for good reasons: go on without the option.
            show(
                sources,
                &complaints
                    .into_iter()
                    .map(Diagnostic::warning)
                    .collect::<Vec<_>>(),
            );
        }
    }
    debug_assert!(wrong.iter().all(|one| one.severity == Severity::Error));
    if wrong.is_empty() {
        0
    } else {
        refuse(sources, &wrong)
    }
}

fn checks_ip(session: &Session<'_>) -> bool {
    !session.config.global.is_on("disable-ip-verification") && session.general().dry_run != 1
}

fn wrong_address(view: &View<'_>, node: &Node) -> Option<Diagnostic> {
    let side = view.mine()?;
    let address = view.my_address().filter(|address| !node.has(address))?;
    let label = if side.names.is_empty() {
        address.endpoint()
    } else {
        node.name.clone()
    };
    let sentence = format!(
        "in resource {}, on {label}:\n\tIP {} not found on this host.",
        view.name(),
        address.host
    );
    Some(Diagnostic::error(
        address_place(side.host),
        sentence,
        "no interface has this address",
    ))
}

/// Runs a command on one resource or volume after the other.
fn each(session: &Session<'_>, selected: &[Selected<'_>]) -> Ending {
    let mut highest = 0;
    for one in selected {
        let code = work::on_resource(session, one)?;
        highest = highest.max(code);
        if code >= CANNOT_RUN {
            let (program, command) = (session.program, session.command().name);
            eprintln!(
                "{program} {command} {}: exited with code {code}",
                one.view.name()
            );
            return Ok(code);
        }
    }
    Ok(highest)
}

/// One text for a program to read, not one for each resource.
fn status_of_all(session: &Session<'_>) -> Ending {
    if session.invocation.names.iter().any(|name| name != "all") {
        eprintln!("With --json, name one resource, or none for all.");
        return Ok(MISUSED);
    }
    let call = Call::setup(Limit::Short, ["status"]).with(&session.invocation.backend);
    session.runner.run("all", &call)
}

/// Prints the configuration.
fn dump(session: &Session<'_>, written: &Config, node: &Node) -> Ending {
    let general = session.general();
    let is_expanded = general.dry_run > 0 || general.verbose > 0;
    let config = if is_expanded { session.config } else { written };
    let views = match resolve(config, node, general.peer.as_deref()) {
        Ok(views) => views,
        Err(errors) => return Ok(refuse(&config.sources, &errors)),
    };
    let (selected, misnamed) = if session.invocation.names.iter().any(|name| name != "all") {
        selection(session)
    } else {
        (all(session.views, false), 0)
    };
    let code = prepare(session, node, &selected);
    if code != 0 {
        return Ok(code);
    }
    if session.command().name == "dump-xml" {
        print!("{}", print_xml::dump(config, &views));
        return Ok(misnamed);
    }
    if session.invocation.names.iter().any(|name| name != "all") {
        for one in &selected {
            let wanted = |view: &&View<'_>| view.name() == one.view.name();
            if let Some(view) = views.iter().find(wanted) {
                print!("{}", print::resource(config, view, &node.name));
            }
        }
        return Ok(misnamed);
    }
    print!("{}", print::header(config));
    for view in &views {
        print!("{}", print::resource(config, view, &node.name));
    }
    Ok(0)
}
