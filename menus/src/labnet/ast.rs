//! A template as it is evaluated: checked, with its arguments in place.

use regex::Regex;

/// Elements and text in the order in which they yield their strings.
pub(super) type Content = Vec<Node>;

/// One element or piece of text.
#[derive(Debug)]
pub(super) struct Node {
    /// Its byte in the source.
    pub(super) at: usize,
    pub(super) op: Op,
}

/// What a node yields. The numbers are those of the guide's section 2.6.
#[derive(Debug)]
pub(super) enum Op {
    /// Text that is not all blanks, and `<literal>` (1).
    Text(String),
    /// `<self/>` (2)
    SelfName,
    /// `<selftype/>` (3)
    SelfType,
    /// `<setvalue>` (4): yields nothing. No value unsets.
    SetValue { name: Content, value: Box<Node> },
    /// `<getvalue>` (4)
    GetValue(Content),
    /// `<setdefaults>` (5): yields what its body yields.
    SetDefaults { scope: Scope, body: Content },
    /// `<varVal>` (6): for each entity each variable's values.
    VarVal { scope: Scope, names: Content },
    /// `<confVal>` (7): as `varVal`, of the type for applications' settings.
    ConfVal { entity: Option<Content>, names: Content },
    /// `<def_entity/>` (8)
    DefEntity,
    /// `<def_type/>` (9)
    DefType,
    /// `<OR_expr>`, `<AND_expr>` (11): entity names, sorted.
    Search { all: bool, kind: Option<Content>, terms: Vec<Term> },
    /// `<iterateOverLists>` (12): one string for each pass.
    Iterate { lists: Vec<Content>, body: Content },
    /// `<item>` (13)
    Item { level: usize, index: Option<Content> },
    /// `<select>` (14): counts from 0; nothing where there is no such string.
    Select { index: Content, strings: Content },
    /// `<indexof>` (15): counts from 0; nothing where there is no such string.
    IndexOf { wanted: Box<Node>, strings: Content },
    /// `<numStrings>` (16)
    NumStrings(Content),
    /// `<plus>`, `<minus>`, `<mul>`, `<div>` (17)
    Arithmetic { operator: Operator, left: Box<Node>, right: Box<Node> },
    /// `<if>` (18)
    If { branches: Vec<(Condition, Content)>, otherwise: Content },
    /// `<substitute>` (19)
    Substitute { pattern: Pattern, string: Box<Node>, with: Box<Node> },
    /// `<getentitylist>` (20)
    EntityList(Content),
    /// `<unique>` (21): keeps the first of each.
    Unique(Content),
    /// `<sorted>` (22): by character code.
    Sorted(Content),
    /// `<cat>` (23): always one string, of all strings within.
    Cat(Content),
    /// `<line>` (23)
    Line(Vec<LinePart>),
}

/// `<type>` and `<entity>`, where they are given.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) kind: Option<Content>,
    pub(super) entity: Option<Content>,
}

/// A `<var>` and `<val>` pair of a search.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) variable: Content,
    pub(super) value: Content,
}

#[derive(Debug)]
pub(super) enum LinePart {
    Content(Node),
    /// `<ts>`
    TabStop(usize, Content),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Operator {
    Plus,
    Minus,
    Mul,
    Div,
}

impl Operator {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plus => "plus",
            Self::Minus => "minus",
            Self::Mul => "mul",
            Self::Div => "div",
        }
    }

    pub(super) fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Self::Plus => left.checked_add(right),
            Self::Minus => left.checked_sub(right),
            Self::Mul => left.checked_mul(right),
            Self::Div => left.checked_div(right),
        }
    }
}

/// `<pattern>`: compiled with the template where its text is plain.
#[derive(Debug)]
pub(super) enum Pattern {
    Fixed(Regex),
    Made { at: usize, content: Content },
}

/// What `<if>` and `<elseif>` ask.
#[derive(Debug)]
pub(super) enum Condition {
    /// `<equal>`, `<noteq>`: no value is like an empty one.
    Equal { left: Node, right: Node, negated: bool },
    /// `<hasvalue>`
    HasValue { strings: Node, value: Node },
    /// `<match>`
    Match { pattern: Pattern, subject: Content },
    /// `<or>`
    Any(Vec<Condition>),
    /// `<and>`
    All(Vec<Condition>),
    /// `<is_entity>` (10)
    IsEntity { name: Content, kind: Option<Content> },
    /// Anything else: whether it yields a string at all, be it an empty one.
    Value(Node),
}
