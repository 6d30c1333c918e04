//! Expressions in CEL before they are run: whether their types are right, and what they may cost at worst. The rules of custom resources
//! (`crd`) and admission policies ask here when they are written; running them is `crd::rules`' matter. Follows cel-go's `checker` and
//! k8s.io/apiserver's `pkg/cel`, down to the words of errors; where it does not know better it lets pass, since an expression that an API
//! server takes must not be refused.
//!
//! | what | where |
//! |---|---|
//! | types, and how they are named | `types` |
//! | which type fits where another is wanted | `solve` |
//! | what a schema says of types and sizes | `declared` |
//! | functions and their overloads | `functions.txt`, `functions` |
//! | macros that the parser does not have | `macros` |
//! | the types of an expression | `check`, `literals` |
//! | faults as cel-go shows them | `words` |
//! | what it may cost at worst | `cost`, `prices`, `range` |

mod check;
mod cost;
mod declared;
mod functions;
mod literals;
pub mod macros;
mod prices;
mod range;
mod solve;
mod types;
mod words;

pub use declared::{Declared, MOST_REQUEST, escape, is_reserved};
pub use functions::{is_known, named};
pub use types::{Kind, Type};

use cel::common::ast::IdedExpr;
use cel::{Env, extensions};
use std::sync::{Arc, OnceLock};

/// What an expression may name.
#[derive(Debug, Default)]
pub struct Declarations<'d> {
    variables: Vec<(&'d str, Type)>,
    /// What objects are named after.
    roots: Roots<'d>,
}

/// What is declared, each under the name that objects in it begin with.
pub type Roots<'d> = Vec<(&'d str, &'d Arc<Declared>)>;

impl<'d> Declarations<'d> {
    /// These variables. Objects are named after where they lie below `roots`.
    pub fn new(variables: Vec<(&'d str, Type)>, roots: Roots<'d>) -> Self {
        Self { variables, roots }
    }

    fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.iter().find(|(one, _)| *one == name).map(|(_, type_)| type_)
    }

    fn name(&self, type_: &Type) -> String {
        type_.name(&self.roots)
    }
}

/// An expression whose types are right.
#[derive(Debug)]
pub struct Checked {
    expression: Box<IdedExpr>,
    found: check::Findings,
}

impl Checked {
    /// The type of its value; an error if it was too much to think through.
    pub fn output(&self) -> Type {
        if self.found.gave_up {
            return Type::Error;
        }
        self.found.types.get(&check::place(&self.expression)).cloned().unwrap_or(Type::Dyn)
    }

    /// Whether its value is of this type. What was too much to think through may be of any.
    pub fn gives(&self, type_: &Type) -> bool {
        self.found.gave_up || self.output().is(type_)
    }

    /// What it may cost at worst over values that are declared so. Nothing is known of what was too much to think through.
    pub fn most_cost(&self, root: &Arc<Declared>) -> u64 {
        if self.found.gave_up { 0 } else { cost::of(self, root).max }
    }

    /// Whether it uses what is declared of this name.
    pub fn uses(&self, name: &str) -> bool {
        self.found.used.contains(name)
    }
}

/// Finds out the types of an expression; or tells what is wrong, as cel-go does. Its depth must be bounded: the walk is by recursion.
pub fn check(source: &str, declarations: &Declarations<'_>) -> Result<Checked, String> {
    let parsed = environment().parser().parse_with_source_info(source);
    let (expression, info) = parsed.map_err(|errors| {
        let mut out = String::new();
        for error in &errors.errors {
            if !out.is_empty() {
                out.push('\n');
            }
            let (line, column) = (error.pos.0.max(1) as usize, error.pos.1.max(1) as usize);
            words::one(&mut out, source, line, column, &error.msg);
        }
        out
    })?;
    let expression = Box::new(expression);
    let mut found = check::check(&expression, declarations);
    if found.faults.is_empty() {
        literals::check(&expression, &mut found, declarations);
    }
    if found.faults.is_empty() || found.gave_up {
        return Ok(Checked { expression, found });
    }
    Err(words::told(&found.faults, &info))
}

/// What expressions are parsed with: its macros count, not its functions.
fn environment() -> &'static Env {
    static ENVIRONMENT: OnceLock<Env> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Env::stdlib();
        // They do not conflict: the tests use them all.
        let _never_fails = env.add_extension(extensions::lists);
        for one in macros::two_variables(macros::For::Checking) {
            let _never_fails = env.add_macro(one);
        }
        env
    })
}

#[cfg(test)]
mod tests;
