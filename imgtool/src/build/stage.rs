//! Doing the stages: each on a thread of its own as soon as those it needs are done, step after step.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use sys::path::Root;

use super::directories::Dress;
use super::dockerfile::instruction::{Instruction, Stage, Step};
use super::dockerfile::{Wrong, expand, parse};
use super::progress::Vertex;
use super::state::State;
use super::work::Work;
use super::{Builder, cache, directories, graph, source};
use crate::layer::pack::{Packed, Packer};
use crate::layer::{diff, tree};
use crate::rootfs::RootFs;
use crate::store::document::Platform;

/// What each stage has come to.
#[derive(Debug)]
pub struct Results {
    done: Mutex<Vec<Option<Option<Arc<State>>>>>,
    changed: Condvar,
}

impl Results {
    /// For so many stages.
    pub fn new(count: usize) -> Self {
        Self { done: Mutex::new(vec![None; count]), changed: Condvar::new() }
    }

    fn set(&self, index: usize, state: Option<State>) {
        if let Ok(mut done) = self.done.lock() {
            done[index] = Some(state.map(Arc::new));
        }
        self.changed.notify_all();
    }

    /// Waits for a stage. `None` where it failed.
    pub fn wait(&self, index: usize) -> Option<Arc<State>> {
        let mut done = self.done.lock().ok()?;
        loop {
            if let Some(state) = &done[index] {
                return state.clone();
            }
            done = self.changed.wait(done).ok()?;
        }
    }
}

/// ARGs that every Dockerfile may use without saying so.
pub fn is_predefined(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    matches!(
        upper.as_str(),
        "HTTP_PROXY" | "HTTPS_PROXY" | "FTP_PROXY" | "NO_PROXY" | "ALL_PROXY" | "SOURCE_DATE_EPOCH"
    ) || upper.starts_with("BUILDKIT_")
}

impl Builder<'_> {
    /// Does `target` and every stage that it needs.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn stages(&self, target: usize) -> Result<State> {
        let globals = self.globals()?;
        let base = |stage: &Stage| self.base_name(stage, &globals).unwrap_or_default();
        let needed = graph::needed(self.file, target, &base);
        let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for &index in &needed {
                let (globals, failure, base) = (&globals, &failure, &base);
                let needs = graph::direct(self.file, index, base);
                scope.spawn(move || {
                    // A failed need has reported itself.
                    if needs.iter().any(|need| self.results.wait(*need).is_none()) {
                        return self.results.set(index, None);
                    }
                    match self.stage(index, globals) {
                        Ok(state) => self.results.set(index, Some(state)),
                        Err(err) => {
                            if let Ok(mut failure) = failure.lock() {
                                failure.get_or_insert(err);
                            }
                            self.results.set(index, None);
                        }
                    }
                });
            }
        });
        if let Some(err) = failure.into_inner().ok().flatten() {
            return Err(err);
        }
        let state = self.results.wait(target).ok_or_else(|| anyhow!("the target stage was not built"))?;
        Ok(State::clone(&state))
    }

    /// ARGs before the first FROM, with their values.
    fn globals(&self) -> Result<Vec<(String, String)>> {
        let mut globals = self.platform_args();
        for step in &self.file.global {
            let Instruction::Arg(names) = &step.instruction else { continue };
            for (name, default) in names {
                let value = match (self.build_arg(name), default) {
                    (Some(given), _) => given,
                    (None, Some(default)) => {
                        self.word(default, &globals).map_err(|why| self.wrong(step, &why))?
                    }
                    // What the platform gives stays.
                    (None, None) => continue,
                };
                globals.retain(|(known, _)| known != name);
                globals.push((name.clone(), value));
            }
        }
        Ok(globals)
    }

    pub(super) fn word(&self, text: &str, values: &[(String, String)]) -> Result<String, String> {
        let lookup =
            |name: &str| values.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        expand::word(text, self.file.escape, &lookup)
    }

    fn platform_args(&self) -> Vec<(String, String)> {
        let mut args = Vec::new();
        for (prefix, platform) in [("BUILD", &Platform::host()), ("TARGET", &self.options.platform)] {
            let variant = platform.variant.clone().unwrap_or_default();
            args.push((format!("{prefix}PLATFORM"), platform.to_string()));
            args.push((format!("{prefix}OS"), platform.os.clone()));
            args.push((format!("{prefix}ARCH"), platform.architecture.clone()));
            args.push((format!("{prefix}VARIANT"), variant));
        }
        args.push(("TARGETSTAGE".into(), self.options.target.clone().unwrap_or_else(|| "default".into())));
        args
    }

    fn build_arg(&self, name: &str) -> Option<String> {
        let given = self.options.build_args.iter().rev().find(|(key, _)| key == name);
        if let (Some(_), Ok(mut used)) = (given, self.used_args.lock()) {
            used.push(name.to_owned());
        }
        given.map(|(_, value)| value.clone())
    }

    pub(super) fn base_name(&self, stage: &Stage, globals: &[(String, String)]) -> Result<String> {
        match self.word(&stage.from.image, globals) {
            Ok(name) if !name.is_empty() => Ok(name),
            Ok(_) => {
                Err(self.place(stage.span, &format!("base name ({}) should not be blank", stage.from.image)))
            }
            Err(why) => Err(self.place(stage.span, &why)),
        }
    }

    fn wrong(&self, step: &Step, why: &str) -> anyhow::Error {
        self.place(step.span, why)
    }

    /// An error with its place in the Dockerfile, whose lines are shown.
    pub(super) fn place(&self, span: super::dockerfile::Span, why: &str) -> anyhow::Error {
        self.progress.note(&self.source.excerpt(&Wrong::new(span, why)));
        anyhow!("{}:{}: {why}", self.source.name, span.first)
    }

    fn stage(&self, index: usize, globals: &[(String, String)]) -> Result<State> {
        let stage = &self.file.stages[index];
        let mut state = self.base(index, stage, globals)?;
        let triggers = state.config.strings("OnBuild");
        state.config.config.remove("OnBuild");
        let mut steps = Vec::new();
        for trigger in triggers {
            let step =
                parse::trigger(&trigger).map_err(|wrong| anyhow!("ONBUILD {trigger}: {}", wrong.message))?;
            steps.push(Step { span: stage.span, ..step });
        }
        steps.extend(stage.steps.iter().cloned());
        let counts = |step: &Step| {
            matches!(step.instruction, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_))
        };
        let total = 1 + steps.iter().filter(|step| counts(step)).count();
        let name = stage.from.name.clone().unwrap_or_else(|| format!("stage-{index}"));
        let prefix = if self.file.stages.len() > 1 { format!("{name} ") } else { String::new() };
        let vertex =
            self.progress.vertex(&format!("[{prefix}1/{total}] FROM {}", self.base_name(stage, globals)?));
        vertex.cached();
        let mut number = 1;
        for step in &steps {
            if !counts(step) {
                self.light(&mut state, step, globals).map_err(|err| self.wrong_chain(step, &err))?;
                continue;
            }
            number += 1;
            let vertex = self.progress.vertex(&format!("[{prefix}{number}/{total}] {}", step.text));
            self.heavy(&mut state, step, vertex, index)?;
        }
        Ok(state)
    }

    fn wrong_chain(&self, step: &Step, err: &anyhow::Error) -> anyhow::Error {
        self.placed(step.span, err)
    }

    /// `err` with its place in the Dockerfile.
    pub(super) fn placed(&self, span: super::dockerfile::Span, err: &anyhow::Error) -> anyhow::Error {
        let kind = contracts::fault::Kind::of(err);
        let placed = self.place(span, &format!("{err:#}"));
        match kind {
            // The place is for people, the kind for the exit code.
            Some(kind) => contracts::fault::Fault::new(kind, format!("{placed:#}")).into(),
            None => placed,
        }
    }

    /// An instruction without a step in the progress.
    fn light(&self, state: &mut State, step: &Step, globals: &[(String, String)]) -> Result<()> {
        let Instruction::Arg(names) = &step.instruction else {
            if let Some(text) = state.configure(&step.instruction)? {
                state.note(text, true);
            }
            return Ok(());
        };
        let mut shown = Vec::new();
        for (name, default) in names {
            let name = state.expand(name)?;
            let default = default.as_ref().map(|default| state.expand(default)).transpose()?;
            let global = || globals.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
            let value = self.build_arg(&name).or_else(|| default.clone()).or_else(global);
            shown.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            if let Some(value) = value {
                state.args.retain(|(known, _)| *known != name);
                state.args.push((name, value));
            }
        }
        state.note(format!("ARG {}", shown.join(" ")), true);
        Ok(())
    }

    /// RUN, COPY, ADD, WORKDIR: looked up, or done.
    fn heavy(&self, state: &mut State, step: &Step, vertex: Vertex<'_>, index: usize) -> Result<()> {
        match self.try_heavy(state, step, &vertex, index) {
            Ok(true) => vertex.cached(),
            Ok(false) => vertex.done(),
            Err(err) => {
                vertex.failed(&contracts::report::one_line(&err));
                return Err(self.wrong_chain(step, &err));
            }
        }
        Ok(())
    }

    /// Says whether it was cached.
    fn try_heavy(&self, state: &mut State, step: &Step, vertex: &Vertex<'_>, index: usize) -> Result<bool> {
        match &step.instruction {
            Instruction::Run(run) => {
                let planned = self.plan_run(state, run)?;
                let before = state.clone();
                self.step(state, (index, &planned.key, false), planned.history.clone(), &|work| {
                    self.execute(&before, &planned, work, vertex)
                })
            }
            Instruction::Copy(instruction) => {
                let planned = self.plan_copy(state, instruction)?;
                self.step(state, (index, &planned.key, instruction.link), planned.history.clone(), &|work| {
                    self.place_files(&planned, work)
                })
            }
            Instruction::Workdir(text) => {
                let dir = state.change_directory(text)?;
                let user = state.user();
                let key = json!({"workdir": dir, "user": user});
                let history = format!("WORKDIR {dir}");
                self.step(state, (index, &key, false), history, &|work| {
                    let root = Root::open(&work.path().join("rootfs")).context("open the rootfs")?;
                    let owner = source::owner(&root, &user)?;
                    let path = std::path::Path::new("/").join(tree::clean(dir.as_bytes())?);
                    directories::make(&root, &path, Dress { owner, time: self.options.epoch })?;
                    Ok(())
                })
            }
            _ => bail!("not a step"),
        }
    }

    /// Looks a step up by its key or does it with `action` on a mounted rootfs, and adds its layer.
    pub(super) fn step(
        &self,
        state: &mut State,
        (index, inputs, alone): (usize, &Value, bool),
        history: String,
        action: &dyn Fn(&Work) -> Result<()>,
    ) -> Result<bool> {
        let below: Vec<String> = if alone {
            Vec::new()
        } else {
            state.layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect()
        };
        let platform = state.config.platform().to_string();
        let key = cache::key(
            &json!({"v": 2, "below": below, "step": inputs, "epoch": self.clamp(), "platform": platform}),
        )?;
        let name = self.file.stages[index].from.name.clone().unwrap_or_default();
        let ask = !self.options.no_cache && !self.options.no_cache_filter.contains(&name);
        let known = if ask { cache::find(self.store, &key) } else { None };
        let known = match known {
            // Held, then looked for again: a collector may have been between.
            Some(made) => {
                self.lease.hold(made.layer.iter().map(|layer| &layer.blob.digest))?;
                cache::find(self.store, &key)
            }
            None => None,
        };
        let known = match known {
            None if ask => self.elsewhere(&key)?,
            known => known,
        };
        let cached = known.is_some();
        let made = match known {
            Some(made) => made,
            None => {
                let layer = self.layer(state, alone, action)?;
                let made = cache::Made::new(layer, super::rfc3339(self.now())?);
                cache::remember(self.store, &key, &made)?;
                made
            }
        };
        state.records.insert(key.clone(), made.clone());
        if let Ok(mut records) = self.records.lock() {
            records.insert(key, made.clone());
        }
        state.time = Some(made.created);
        state.note(history, made.layer.is_none());
        state.layers.extend(made.layer.map(|layer| (layer.blob, layer.diff_id)));
        Ok(cached)
    }

    /// What a step made on another machine, from the caches of `--cache-from`; known here from now on.
    fn elsewhere(&self, key: &str) -> Result<Option<cache::Made>> {
        let made = self.imported.find(self.store, &self.lease, key)?;
        if let Some(made) = &made {
            cache::remember(self.store, key, made)?;
        }
        Ok(made)
    }

    /// SOURCE_DATE_EPOCH, where no file of a layer is to be newer.
    pub(super) fn clamp(&self) -> Option<i64> {
        self.options.epoch.filter(|_| self.options.rewrite)
    }

    /// Now, or SOURCE_DATE_EPOCH.
    pub(super) fn now(&self) -> i64 {
        self.options.epoch.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            i64::try_from(since).unwrap_or(0)
        })
    }

    /// Runs `action` on an overlay of the stage's layers; what it changed becomes a layer, `None` for nothing.
    fn layer(
        &self,
        state: &State,
        alone: bool,
        action: &dyn Fn(&Work) -> Result<()>,
    ) -> Result<Option<Packed>> {
        // The layers' directories too: a collector sees no image that names those of a stage.
        self.lease.hold(state.layers.iter().map(|(_, diff_id)| diff_id))?;
        let lowers = if alone { Vec::new() } else { self.layers.ensure(self.store, &state.layers, None)? };
        let work = Work::new(self.store.paths())?;
        let rootfs = RootFs::at(work.path());
        rootfs.create(&lowers, None)?;
        rootfs.mount(&self.layers, &lowers, true)?;
        let acted = action(&work);
        let unmounted = rootfs.unmount();
        acted?;
        unmounted?;
        let roots: Vec<Root> = lowers
            .iter()
            .rev()
            .map(|path| Root::open(path))
            .collect::<std::io::Result<_>>()
            .context("open the layers")?;
        let options = diff::Options { over: Some(&roots), newest: self.clamp(), ..diff::Options::default() };
        let upper = Root::open(&rootfs.upper).context("open the upper directory")?;
        let packer = Packer::start(self.store)?;
        let (packer, content) = diff::write(std::os::fd::AsFd::as_fd(&upper), &options, packer)?;
        let Some(content) = content else { return Ok(None) };
        let packed = packer.finish(&self.lease)?;
        self.store.note_unpacked(&packed.blob.digest, content);
        self.layers.adopt(&rootfs.upper, &packed.diff_id)?;
        Ok(Some(packed))
    }
}
