//! The tree and a value into text.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::functions::{self, truth};
use super::parse::{Base, Block, BlockKind, Command, Node, Operand, Pipeline};
use super::print;

/// `{{range 5}}` counts at most so far.
const MAX_COUNT: i64 = 1_000_000;

type Val<'a> = Cow<'a, Value>;

/// Words for names: a field and its heading, or a field and what it prints where it is there and null.
pub(super) type Words<'w> = &'w [(&'w str, &'w str)];

/// Renders `nodes` for `root`. With `headings` every field stands for its heading instead of its value.
pub(super) fn run(
    nodes: &[Node],
    root: &Value,
    headings: Option<Words<'_>>,
    nulls: Words<'_>,
) -> Result<String> {
    let root = Cow::Borrowed(root);
    let mut machine = Machine { variables: vec![("", root.clone())], out: String::new(), headings, nulls };
    machine.walk(nodes, &root)?;
    Ok(machine.out)
}

#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Machine<'a, 'h> {
    variables: Vec<(&'a str, Val<'a>)>,
    out: String,
    headings: Option<Words<'h>>,
    nulls: Words<'h>,
}

impl<'a, 'h> Machine<'a, 'h> {
    fn walk(&mut self, nodes: &'a [Node], dot: &Val<'a>) -> Result<Flow> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::Next
                }
                Node::Output(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let word = if value.is_null() { self.null_word(pipeline, dot) } else { None };
                        match word {
                            Some(word) => self.out.push_str(word),
                            None => print::top(&mut self.out, &value),
                        }
                    } else {
                        self.bind(pipeline, &[&value])?;
                    }
                    Flow::Next
                }
                Node::Block(block) => {
                    let scope = self.variables.len();
                    let flow = self.block(block, dot)?;
                    self.variables.truncate(scope);
                    flow
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// What a field that is there prints when it is null: an empty list is one in Go, whatever JSON says.
    fn null_word(&self, pipeline: &Pipeline, dot: &Val<'a>) -> Option<&'h str> {
        let [Command { operands }] = &pipeline.commands[..] else { return None };
        let [Operand { base, fields }] = &operands[..] else { return None };
        let (last, path) = fields.split_last()?;
        let word = self.nulls.iter().find_map(|&(name, word)| (name == last).then_some(word))?;
        let parent = self.operand(&Operand { base: base.clone(), fields: path.to_vec() }, dot).ok()?;
        parent.as_object()?.contains_key(last).then_some(word)
    }

    fn block(&mut self, block: &'a Block, dot: &Val<'a>) -> Result<Flow> {
        let value = self.pipeline(&block.pipeline, dot)?;
        if block.kind == BlockKind::Range {
            return self.range(block, value, dot);
        }
        self.bind(&block.pipeline, &[&value])?;
        match (truth(&value), block.kind) {
            (false, _) => self.walk(&block.otherwise, dot),
            (true, BlockKind::With) => self.walk(&block.body, &value),
            (true, _) => self.walk(&block.body, dot),
        }
    }

    fn range(&mut self, block: &'a Block, value: Val<'a>, dot: &Val<'a>) -> Result<Flow> {
        let items = match elements(value) {
            Ok(items) => items,
            // In a header a field is a word: the body is shown once.
            Err(word) if self.headings.is_some() => vec![(Cow::Owned(Value::Null), word)],
            Err(value) => bail!("range can't iterate over {}", print::text(&value)),
        };
        if items.is_empty() {
            return self.walk(&block.otherwise, dot);
        }
        for (key, item) in items {
            let scope = self.variables.len();
            match block.pipeline.variables.len() {
                2 => self.bind(&block.pipeline, &[&key, &item])?,
                _ => self.bind(&block.pipeline, &[&item])?,
            }
            let flow = self.walk(&block.body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind(&mut self, pipeline: &'a Pipeline, values: &[&Val<'a>]) -> Result<()> {
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.assigns {
                let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
                slot.with_context(|| format!("undefined variable ${name}"))?.1 = (*value).clone();
            } else {
                self.variables.push((name, (*value).clone()));
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Val<'a>) -> Result<Val<'a>> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        value.context("an empty pipeline")
    }

    /// `piped` is the value before the `|`: the last argument.
    fn command(&self, command: &Command, dot: &Val<'a>, piped: Option<Val<'a>>) -> Result<Val<'a>> {
        let (first, rest) = command.operands.split_first().context("an empty command")?;
        if let Base::Function(name) = &first.base {
            let value = self.call(name, rest, dot, piped)?;
            return self.fields(value, &first.fields);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        // `.Label "name"` is the one method docker's lists have.
        if let Some((method, path)) = first.fields.split_last()
            && method == "Label"
        {
            let object = self.operand(&Operand { base: first.base.clone(), fields: path.to_vec() }, dot)?;
            let arguments = self.arguments(rest, dot, piped)?;
            return if self.headings.is_some() {
                Ok(arguments.into_iter().next().unwrap_or_default())
            } else {
                label(&object, &arguments).map(Cow::Owned)
            };
        }
        bail!("can't give arguments to {}: it is not a function", name_of(first))
    }

    fn call(
        &self,
        name: &str,
        operands: &[Operand],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>> {
        if matches!(name, "and" | "or") {
            return self.choose(name == "or", operands, dot, piped);
        }
        let arguments = self.arguments(operands, dot, piped)?;
        if self.headings.is_some() && !name.starts_with("print") {
            return arguments.into_iter().next().with_context(|| format!("{name}: no arguments"));
        }
        functions::call(name, &arguments).with_context(|| format!("calling {name}"))
    }

    /// `and`, `or`: arguments after the deciding one are not evaluated.
    fn choose(
        &self,
        stop_at: bool,
        operands: &[Operand],
        dot: &Val<'a>,
        piped: Option<Val<'a>>,
    ) -> Result<Val<'a>> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if truth(&value) == stop_at {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).context("and, or: no arguments")
    }

    fn arguments(&self, operands: &[Operand], dot: &Val<'a>, piped: Option<Val<'a>>) -> Result<Vec<Val<'a>>> {
        let mut values =
            operands.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>>>()?;
        values.extend(piped);
        Ok(values)
    }

    fn operand(&self, operand: &Operand, dot: &Val<'a>) -> Result<Val<'a>> {
        let value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.with_context(|| format!("undefined variable ${name}"))?.1.clone()
            }
            Base::Literal(value) => Cow::Owned(value.clone()),
            Base::Function(name) => functions::call(name, &[]).with_context(|| format!("calling {name}"))?,
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
        };
        self.fields(value, &operand.fields)
    }

    fn fields(&self, mut value: Val<'a>, names: &[String]) -> Result<Val<'a>> {
        if let (Some(headings), Some(last)) = (self.headings, names.last()) {
            let known =
                headings.iter().find(|(field, _)| field == last).map(|&(_, heading)| heading.to_owned());
            return Ok(Cow::Owned(known.unwrap_or_else(|| spaced_upper(last)).into()));
        }
        for name in names {
            value = match value {
                Cow::Borrowed(Value::Object(map)) => Cow::Borrowed(map.get(name).unwrap_or(&Value::Null)),
                Cow::Owned(Value::Object(mut map)) => Cow::Owned(map.remove(name).unwrap_or_default()),
                other if other.is_null() => bail!("can't evaluate field {name}: its parent has no value"),
                other => bail!("can't evaluate field {name} in {}", print::type_name(&other)),
            };
        }
        Ok(value)
    }
}

/// Keys and items to walk; the value itself where it cannot be walked.
fn elements(value: Val<'_>) -> Result<Vec<(Val<'_>, Val<'_>)>, Val<'_>> {
    let numbered = |index: usize| Cow::Owned(Value::from(index));
    Ok(match value {
        Cow::Borrowed(Value::Array(items)) => {
            items.iter().enumerate().map(|(index, item)| (numbered(index), Cow::Borrowed(item))).collect()
        }
        Cow::Owned(Value::Array(items)) => {
            items.into_iter().enumerate().map(|(index, item)| (numbered(index), Cow::Owned(item))).collect()
        }
        Cow::Borrowed(Value::Object(map)) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_unstable_by_key(|&(key, _)| key);
            pairs
                .into_iter()
                .map(|(key, item)| (Cow::Owned(key.clone().into()), Cow::Borrowed(item)))
                .collect()
        }
        Cow::Owned(Value::Object(map)) => {
            let mut pairs: Vec<_> = map.into_iter().collect();
            pairs.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            pairs.into_iter().map(|(key, item)| (Cow::Owned(key.into()), Cow::Owned(item))).collect()
        }
        other => match other.as_ref() {
            Value::Null => Vec::new(),
            Value::Number(number) if number.as_i64().is_some_and(|count| count <= MAX_COUNT) => {
                let count = number.as_u64().unwrap_or(0);
                (0..count).map(|n| (Cow::Owned(n.into()), Cow::Owned(n.into()))).collect()
            }
            _ => return Err(other),
        },
    })
}

/// The value of a label, from a map or from docker's `a=1,b=2`; empty where it is not set.
fn label(object: &Value, arguments: &[Val<'_>]) -> Result<Value> {
    let [name] = arguments else { bail!("Label: wants one argument") };
    let name = name.as_str().context("Label: wants a string")?;
    let value = match object.get("Labels") {
        Some(Value::Object(map)) => map.get(name).and_then(Value::as_str),
        Some(Value::String(list)) => list.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        }),
        _ => None,
    };
    Ok(value.unwrap_or_default().into())
}

fn name_of(operand: &Operand) -> String {
    let base = match &operand.base {
        Base::Variable(name) => format!("${name}"),
        Base::Literal(value) => value.to_string(),
        _ => String::new(),
    };
    operand.fields.iter().fold(base, |path, field| path + "." + field)
}

/// `CreatedAt`: `CREATED AT`, `ID`: `ID`.
fn spaced_upper(field: &str) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for c in field.chars() {
        if c.is_uppercase() && after_lower {
            out.push(' ');
        }
        after_lower = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}
