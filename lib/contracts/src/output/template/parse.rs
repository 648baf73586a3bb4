//! Tokens into a tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::functions;
use super::lex::{Kind, Piece, Token};

/// Deeper nesting of parentheses or blocks is refused: the parser and the evaluator recurse.
const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// `{{pipeline}}`
    Output(Pipeline),
    /// `{{if}}`, `{{with}}`, `{{range}}`
    Block(Block),
    Break,
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    If,
    With,
    Range,
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    pub kind: BlockKind,
    pub pipeline: Pipeline,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// `$x := a | b c`
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    /// Variables that receive the value (for `range`, up to two).
    pub variables: Vec<String>,
    /// `=`: set existing variables; else `:=` makes new ones.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A function or operand with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub operands: Vec<Operand>,
}

/// `base.field.field`
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub base: Base,
    pub fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>),
}

pub(super) fn nodes(pieces: Vec<Piece>) -> Result<Vec<Node>> {
    let mut parser =
        Parser { pieces: pieces.into_iter(), variables: vec![String::new()], blocks: Vec::new() };
    let (nodes, end) = parser.list()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End(at) => bail!("{{{{end}}}} at {at} closes nothing"),
        Stop::Else(at, _) => bail!("{{{{else}}}} at {at} belongs to nothing"),
    }
}

/// What ended a list of nodes.
enum Stop {
    Text,
    End(usize),
    /// `{{else}}` with what follows the word.
    Else(usize, Tokens),
}

type Tokens = Peekable<IntoIter<Token>>;

struct Parser {
    pieces: IntoIter<Piece>,
    /// Names in scope; the first is `$`.
    variables: Vec<String>,
    blocks: Vec<BlockKind>,
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let mut tokens = tokens.into_iter().peekable();
            let Some(first) = tokens.peek().cloned() else { bail!("an action {{{{}}}} is empty") };
            let word = if let Kind::Word(word) = &first.kind { word.as_str() } else { "" };
            let kind = match word {
                "if" => BlockKind::If,
                "with" => BlockKind::With,
                "range" => BlockKind::Range,
                "end" | "else" | "break" | "continue" => {
                    tokens.next();
                    match self.keyword(word, first.at, tokens)? {
                        Ok(node) => nodes.push(node),
                        Err(end) => return Ok((nodes, end)),
                    }
                    continue;
                }
                "define" | "template" | "block" => {
                    bail!("{word} at {} is not supported: a --format template is one text", first.at)
                }
                _ => {
                    nodes.push(Node::Output(self.whole_pipeline(tokens, 1)?));
                    continue;
                }
            };
            tokens.next();
            nodes.push(Node::Block(self.block(kind, tokens, first.at)?));
        }
        Ok((nodes, Stop::Text))
    }

    fn keyword(&self, word: &str, at: usize, mut rest: Tokens) -> Result<Result<Node, Stop>> {
        if word == "else" {
            return Ok(Err(Stop::Else(at, rest)));
        }
        ensure!(rest.next().is_none(), "unexpected words after {word} at {at}");
        if word == "end" {
            return Ok(Err(Stop::End(at)));
        }
        ensure!(self.blocks.contains(&BlockKind::Range), "{word} at {at} is outside of a range");
        Ok(Ok(if word == "break" { Node::Break } else { Node::Continue }))
    }

    /// The rest of a block after its keyword, through its `{{end}}`.
    fn block(&mut self, kind: BlockKind, tokens: Tokens, at: usize) -> Result<Block> {
        ensure!(self.blocks.len() < MAX_DEPTH, "blocks are nested too deep at {at}");
        let scope = self.variables.len();
        self.blocks.push(kind);
        let pipeline = self.whole_pipeline(tokens, if kind == BlockKind::Range { 2 } else { 1 })?;
        let (body, end) = self.list()?;
        self.variables.truncate(scope);
        let otherwise = match end {
            Stop::Text => bail!("the block at {at} has no {{{{end}}}}"),
            Stop::End(_) => Vec::new(),
            Stop::Else(else_at, rest) => self.otherwise(rest, else_at, at)?,
        };
        self.blocks.pop();
        self.variables.truncate(scope);
        Ok(Block { kind, pipeline, body, otherwise })
    }

    /// `{{else}}…{{end}}`, or `{{else if …}}`, which shares the end of the outer block.
    fn otherwise(&mut self, mut rest: Tokens, else_at: usize, at: usize) -> Result<Vec<Node>> {
        let Some(word) = rest.next() else {
            let (nodes, end) = self.list()?;
            return match end {
                Stop::End(_) => Ok(nodes),
                Stop::Text => bail!("the block at {at} has no {{{{end}}}}"),
                Stop::Else(second, _) => bail!("a second {{{{else}}}} at {second}"),
            };
        };
        let kind = match &word.kind {
            Kind::Word(word) if word == "if" => BlockKind::If,
            Kind::Word(word) if word == "with" => BlockKind::With,
            _ => bail!("unexpected words after else at {else_at}"),
        };
        Ok(vec![Node::Block(self.block(kind, rest, else_at)?)])
    }

    fn whole_pipeline(&mut self, mut tokens: Tokens, max_variables: usize) -> Result<Pipeline> {
        let (variables, assigns) = self.declaration(&mut tokens, max_variables)?;
        let mut pipeline = self.pipeline(&mut tokens, 0)?;
        if let Some(token) = tokens.next() {
            bail!("unexpected {:?} at {}", token.kind, token.at);
        }
        // In scope only after the pipeline: `$x := $x` means the outer one.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        (pipeline.variables, pipeline.assigns) = (variables, assigns);
        Ok(pipeline)
    }

    /// `$x :=`, `$x =`, `$i, $x :=`, or nothing.
    fn declaration(&self, tokens: &mut Tokens, max: usize) -> Result<(Vec<String>, bool)> {
        let mut ahead = tokens.clone();
        let mut names = Vec::new();
        loop {
            match (ahead.next(), ahead.next().map(|token| token.kind)) {
                (Some(Token { kind: Kind::Variable(name), at, .. }), Some(next)) => {
                    names.push(name);
                    if next == Kind::Comma {
                        continue;
                    }
                    if next != Kind::Declare && next != Kind::Assign {
                        return Ok((Vec::new(), false));
                    }
                    ensure!(names.len() <= max, "too many variables at {at}");
                    let assigns = next == Kind::Assign;
                    if assigns && let Some(unknown) = names.iter().find(|name| !self.variables.contains(name))
                    {
                        bail!("undefined variable ${unknown} at {at}");
                    }
                    *tokens = ahead;
                    return Ok((names, assigns));
                }
                _ => return Ok((Vec::new(), false)),
            }
        }
    }

    fn pipeline(&self, tokens: &mut Tokens, depth: usize) -> Result<Pipeline> {
        let mut commands = vec![self.command(tokens, depth)?];
        while tokens.next_if(|token| token.kind == Kind::Pipe).is_some() {
            commands.push(self.command(tokens, depth)?);
        }
        Ok(Pipeline { variables: Vec::new(), assigns: false, commands })
    }

    fn command(&self, tokens: &mut Tokens, depth: usize) -> Result<Command> {
        let mut operands: Vec<Operand> = Vec::new();
        while tokens.peek().is_some_and(|token| !matches!(token.kind, Kind::Pipe | Kind::Close)) {
            operands.push(self.operand(tokens, depth)?);
        }
        ensure!(!operands.is_empty(), "a value is missing in a pipeline");
        Ok(Command { operands })
    }

    fn operand(&self, tokens: &mut Tokens, depth: usize) -> Result<Operand> {
        let token = tokens.next().context("a value is missing at the end of an action")?;
        let mut fields = Vec::new();
        let base = match token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) => {
                ensure!(self.variables.contains(&name), "undefined variable ${name} at {}", token.at);
                Base::Variable(name)
            }
            Kind::Literal(value) => Base::Literal(value),
            Kind::Word(word) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ => {
                    ensure!(functions::exists(&word), "function {word:?} at {} is not defined", token.at);
                    Base::Function(word)
                }
            },
            Kind::Open => {
                ensure!(depth < MAX_DEPTH, "parentheses are nested too deep at {}", token.at);
                let inner = self.pipeline(tokens, depth + 1)?;
                let close = tokens.next().with_context(|| format!("( at {} is not closed", token.at))?;
                ensure!(close.kind == Kind::Close, "unexpected {:?} at {}", close.kind, close.at);
                Base::Group(Box::new(inner))
            }
            kind => bail!("unexpected {kind:?} at {}", token.at),
        };
        while let Some(Token { kind: Kind::Field(name), .. }) =
            tokens.next_if(|next| !next.spaced && matches!(next.kind, Kind::Field(_)))
        {
            fields.push(name);
        }
        Ok(Operand { base, fields })
    }
}
