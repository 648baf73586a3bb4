//! One file per verb.

mod attach;
mod boot;
mod checkpoint;
mod cleanup;
mod clone;
mod commit;
mod cp;
mod create;
mod events;
mod exec;
mod exists;
mod export;
mod healthcheck;
mod info;
mod init;
mod inspect;
mod kill;
mod logs;
mod mount;
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

use crate::cli::{Names, Selection, Verb};
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
            let ready = select::select(store, &mut flags.which, can_start);
            report::finish_payload("shim", ready.and_then(|()| start::attached(store, &flags)))
        }
        Verb::Create(mut flags) => {
            let ready = defaults::apply(store, &mut flags).and_then(|()| rm::replaced(store, &flags));
            finish(ready.and_then(|()| create::run(store, &flags)))
        }
        Verb::Init(names) => {
            each_of(store, names, |names| &mut names.which, |state| !state.is_live(), init::run)
        }
        Verb::Clone(flags) => finish(clone::run(store, &flags)),
        Verb::Exists(flags) => finish(exists::run(store, &flags.name)),
        Verb::Mount(flags) => finish(mount::run(store, &flags)),
        Verb::Unmount(flags) => each_of(store, flags, |flags| &mut flags.which, |_| true, mount::undo),
        Verb::Cleanup(flags) => each_of(store, flags, |flags| &mut flags.which, |_| true, cleanup::run),
        Verb::Start(flags) => each_of(store, flags, |flags| &mut flags.which, can_start, start::one),
        Verb::Stop(flags) => each_of(store, flags, |flags| &mut flags.which, State::is_live, stop::stop),
        Verb::Restart(flags) => {
            let running = flags.running;
            let fit = |state: State| !running || state.is_live();
            each_of(store, flags, |flags| &mut flags.which, fit, stop::restart)
        }
        Verb::Kill(flags) => each_of(store, flags, |flags| &mut flags.which, State::is_live, kill::run),
        Verb::Rm(flags) => each_of(store, flags, |flags| &mut flags.which, |_| true, rm::run),
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
        Verb::Pause(names) => pause_each(store, names, true),
        Verb::Unpause(names) => pause_each(store, names, false),
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

/// Does one thing to each container that is named or chosen; where all are, to those in a state that `fit`s.
fn each_of<F>(
    store: &Store,
    mut flags: F,
    which: fn(&mut F) -> &mut Selection,
    fit: impl Fn(State) -> bool,
    one: impl Fn(&Store, &str, &F) -> Result<Option<String>>,
) -> ExitCode {
    let chosen = select::select(store, which(&mut flags), fit);
    let names = chosen.map(|()| which(&mut flags).containers.clone());
    finish(names.and_then(|names| each(&names, |name| one(store, name, &flags))))
}

fn pause_each(store: &Store, names: Names, pause: bool) -> ExitCode {
    let fit = |state| state == if pause { State::Running } else { State::Paused };
    each_of(store, names, |names| &mut names.which, fit, |store, name, _| pause::run(store, name, pause))
}

fn can_start(state: State) -> bool {
    !state.is_live() || state == State::Initialized
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
