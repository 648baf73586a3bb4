//! One file per verb.

mod attach;
mod boot;
mod checkpoint;
mod commit;
mod cp;
mod create;
mod events;
mod exec;
mod export;
mod healthcheck;
mod info;
mod inspect;
mod kill;
mod logs;
mod pause;
mod port;
mod prune;
mod ps;
mod rename;
mod restore;
mod rm;
mod run;
mod select;
mod start;
mod stats;
mod stop;
mod top;
mod update;
mod volume;
mod wait;

use std::process::ExitCode;

use anyhow::Result;
use contracts::container::State;
use contracts::exit::Exit;
use contracts::report;

use crate::cli::Verb;
use crate::container::{Store, remove};
use crate::request::defaults;
use crate::{finish, show};

/// Does what the user asked for.
pub fn run(verb: Verb) -> ExitCode {
    let store = Store::open();
    let store = &store;
    remove::sweep(store);
    match verb {
        // Whatever fails before the payload starts must not look like the payload's code.
        Verb::Run(mut flags) => {
            let ready =
                defaults::apply(store, &mut flags.create).and_then(|()| rm::replaced(store, &flags.create));
            report::finish_payload("shim", ready.and_then(|()| run::run(store, &flags)))
        }
        Verb::Exec(flags) => report::finish_payload("shim", exec::run(store, &flags)),
        Verb::Start(mut flags) if flags.attach || flags.interactive => {
            let ready = select::select(store, &mut flags.which, |state| !state.is_live());
            report::finish_payload("shim", ready.and_then(|()| start::attached(store, &flags)))
        }
        Verb::Create(mut flags) => {
            let ready = defaults::apply(store, &mut flags).and_then(|()| rm::replaced(store, &flags));
            finish(ready.and_then(|()| create::run(store, &flags)))
        }
        Verb::Start(mut flags) => finish(
            select::select(store, &mut flags.which, |state| !state.is_live())
                .and_then(|()| each(&flags.which.containers, |name| start::one(store, name, &flags))),
        ),
        Verb::Stop(mut flags) => finish(
            select::select(store, &mut flags.which, State::is_live)
                .and_then(|()| each(&flags.which.containers, |name| stop::stop(store, name, &flags))),
        ),
        Verb::Restart(mut flags) => finish(
            select::select(store, &mut flags.which, |state| !flags.running || state.is_live())
                .and_then(|()| each(&flags.which.containers, |name| stop::restart(store, name, &flags))),
        ),
        Verb::Kill(mut flags) => finish(
            select::select(store, &mut flags.which, State::is_live)
                .and_then(|()| each(&flags.which.containers, |name| kill::run(store, name, &flags))),
        ),
        Verb::Rm(mut flags) => finish(
            select::select(store, &mut flags.which, |_| true)
                .and_then(|()| each(&flags.which.containers, |name| rm::run(store, name, &flags))),
        ),
        Verb::Checkpoint(command) => checkpoint::run(store, &command),
        Verb::Restore(flags) => finish(restore::run(store, &flags)),
        Verb::Ps(flags) => finish(ps::run(store, &flags)),
        Verb::Logs(flags) => finish(logs::run(store, &flags)),
        Verb::Attach(flags) => finish(attach::run(store, &flags)),
        Verb::Wait(flags) => finish(each(&flags.containers, |name| wait::run(store, name, &flags))),
        Verb::Inspect(flags) => finish(inspect::run(store, &flags)),
        Verb::Export(flags) => finish(export::run(store, &flags)),
        Verb::Commit(flags) => finish(commit::run(store, &flags)),
        Verb::Diff(name) => finish(commit::diff(store, &name.container)),
        Verb::Port(flags) => finish(port::run(store, &flags)),
        Verb::Top(flags) => finish(top::run(store, &flags)),
        Verb::Rename(flags) => finish(rename::run(store, &flags)),
        Verb::Pause(mut names) => finish(
            select::select(store, &mut names.which, |state| state == State::Running)
                .and_then(|()| each(&names.which.containers, |name| pause::run(store, name, true))),
        ),
        Verb::Unpause(mut names) => finish(
            select::select(store, &mut names.which, |state| state == State::Paused)
                .and_then(|()| each(&names.which.containers, |name| pause::run(store, name, false))),
        ),
        Verb::Cp(flags) => finish(cp::run(store, &flags)),
        Verb::Stats(flags) => finish(stats::run(store, &flags)),
        Verb::Update(flags) => finish(each(&flags.containers, |name| update::run(store, name, &flags))),
        Verb::Prune(flags) => finish(prune::run(store, &flags)),
        Verb::Events(flags) => finish(events::run(store, &flags)),
        Verb::Volume(verb) => finish(volume::run(store, &verb)),
        Verb::Healthcheck(verb) => finish(healthcheck::run(store, &verb)),
        Verb::Boot(flags) => finish(if flags.stop { boot::stop(store) } else { boot::run(store) }),
        Verb::Info(flags) => finish(info::info(store, &flags)),
        Verb::Version(flags) => finish(info::version(&flags)),
    }
}

/// Does one thing to each name, prints what it returns, goes on after an error; the first error's code counts.
fn each(names: &[String], mut one: impl FnMut(&str) -> Result<Option<String>>) -> Result<Exit> {
    let mut exit = Exit::Ok;
    for name in names {
        match one(name) {
            Ok(Some(line)) => show::line(&line)?,
            Ok(None) => {}
            Err(err) => {
                report::print_error("shim", &err);
                if exit == Exit::Ok {
                    exit = Exit::from(&err);
                }
            }
        }
    }
    Ok(exit)
}
