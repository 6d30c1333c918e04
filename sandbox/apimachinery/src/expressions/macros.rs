//! Macros with two variables (cel-go `ext/comprehensions.go`): `map.all(key, value, …)`, `list.transformMap(index, value, …)` and so on.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};
use cel::parser::{Macro, MacroExprHelper, ParseError};

/// What a macro makes, by which its parts differ.
#[derive(Clone, Copy)]
enum Makes {
    All,
    Exists,
    One,
    List,
    Map,
    MapEntry,
}

/// What holds the result of a macro while it is made, as the parser names it in its own macros.
pub const RESULT: &str = "@result";

/// Who gets the expressions that macros make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The checker: macros are what upstream makes of them.
    Checking,
    /// What runs them, which knows one variable only: that is an entry of `@entries(…)`, a list of lists of two, and the two names are bound to
    /// its parts.
    Running,
}

/// What lists the entries of a map, or the indices and elements of a list.
pub const ENTRIES: &str = "@entries";
/// What adds an entry to a map.
pub const INSERT: &str = "cel.@mapInsert";
const ENTRY: &str = "@entry";

/// All macros with two variables.
pub fn two_variables(made_for: For) -> Vec<Macro> {
    let all = [
        ("all", 3, Makes::All),
        ("exists", 3, Makes::Exists),
        ("existsOne", 3, Makes::One),
        ("exists_one", 3, Makes::One),
        ("transformList", 3, Makes::List),
        ("transformList", 4, Makes::List),
        ("transformMap", 3, Makes::Map),
        ("transformMap", 4, Makes::Map),
        ("transformMapEntry", 3, Makes::MapEntry),
        ("transformMapEntry", 4, Makes::MapEntry),
    ];
    all.into_iter()
        .map(|(name, count, makes)| {
            Macro::receiver(name, count, move |helper, target, args| {
                let (Some(target), true) = (target.take(), args.len() >= 3) else { return Ok(None) };
                expand(helper, target, std::mem::take(args), makes, made_for).map(Some)
            })
        })
        .collect()
}

fn expand(
    helper: &mut MacroExprHelper<'_>,
    target: IdedExpr,
    mut args: Vec<IdedExpr>,
    makes: Makes,
    made_for: For,
) -> Result<IdedExpr, ParseError> {
    let transform = args.pop().unwrap_or_default();
    let filter = if args.len() > 2 { args.pop() } else { None };
    let (first, second) = names(helper, &args)?;
    let mut make = Make { helper };
    let accu = make.name(RESULT);
    let (init, condition, step, result) = match makes {
        Makes::All => {
            let condition = make.call(operators::NOT_STRICTLY_FALSE, vec![accu]);
            let before = make.name(RESULT);
            let step = make.call(operators::LOGICAL_AND, vec![before, transform]);
            (make.bool(true), condition, step, make.name(RESULT))
        }
        Makes::Exists => {
            let not = make.call(operators::LOGICAL_NOT, vec![accu]);
            let condition = make.call(operators::NOT_STRICTLY_FALSE, vec![not]);
            let before = make.name(RESULT);
            let step = make.call(operators::LOGICAL_OR, vec![before, transform]);
            (make.bool(false), condition, step, make.name(RESULT))
        }
        Makes::One => {
            let one = make.int(1);
            let more = make.call(operators::ADD, vec![accu, one]);
            let same = make.name(RESULT);
            let step = make.call(operators::CONDITIONAL, vec![transform, more, same]);
            let (counted, one) = (make.name(RESULT), make.int(1));
            let result = make.call(operators::EQUALS, vec![counted, one]);
            (make.int(0), make.bool(true), step, result)
        }
        Makes::List => {
            let one = make.expr(Expr::List(ListExpr::new(vec![transform])));
            let step = make.call(operators::ADD, vec![accu, one]);
            let step = make.filtered(filter, step);
            let none = make.expr(Expr::List(ListExpr::new(Vec::new())));
            (none, make.bool(true), step, make.name(RESULT))
        }
        Makes::Map | Makes::MapEntry => {
            let mut args = vec![accu];
            if matches!(makes, Makes::Map) {
                args.push(make.name(&first));
            }
            args.push(transform);
            let step = make.call(INSERT, args);
            let step = make.filtered(filter, step);
            let none = make.expr(Expr::Map(MapExpr::default()));
            (none, make.bool(true), step, make.name(RESULT))
        }
    };
    let mut loop_ = ComprehensionExpr {
        iter_range: target,
        iter_var: first,
        iter_var2: Some(second),
        accu_var: RESULT.into(),
        accu_init: init,
        loop_cond: condition,
        loop_step: step,
        result,
    };
    if made_for == For::Running {
        make.runnable(&mut loop_);
    }
    Ok(make.expr(Expr::Comprehension(Box::new(loop_))))
}

/// The two names, which must differ.
fn names(helper: &MacroExprHelper<'_>, args: &[IdedExpr]) -> Result<(String, String), ParseError> {
    let name = |at: &IdedExpr| match &at.expr {
        Expr::Ident(name) if name == RESULT || name == "__result__" => {
            Err(helper.new_error(at.id, "iteration variable overwrites accumulator variable"))
        }
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(helper.new_error(at.id, "argument must be a simple name")),
    };
    let [first, second] = args else {
        return Err(helper.new_error(0, "two names are needed"));
    };
    let (one, other) = (name(first)?, name(second)?);
    if one == other {
        return Err(helper.new_error(second.id, format!("duplicate variable name: {one}")));
    }
    Ok((one, other))
}

/// Makes parts that stand where the macro stands.
struct Make<'m, 'h> {
    helper: &'m mut MacroExprHelper<'h>,
}

impl Make<'_, '_> {
    fn expr(&mut self, expr: Expr) -> IdedExpr {
        self.helper.next_expr(expr)
    }

    fn name(&mut self, name: &str) -> IdedExpr {
        self.expr(Expr::Ident(name.into()))
    }

    fn bool(&mut self, value: bool) -> IdedExpr {
        self.expr(Expr::Literal(LiteralValue::Boolean(value.into())))
    }

    fn int(&mut self, value: i64) -> IdedExpr {
        self.expr(Expr::Literal(LiteralValue::Int(value.into())))
    }

    fn call(&mut self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.expr(Expr::Call(CallExpr { func_name: name.into(), target: None, args }))
    }

    fn filtered(&mut self, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
        match filter {
            None => step,
            Some(filter) => {
                let same = self.name(RESULT);
                self.call(operators::CONDITIONAL, vec![filter, step, same])
            }
        }
    }

    /// Has a loop go through entries, whose parts have its two names.
    fn runnable(&mut self, loop_: &mut ComprehensionExpr) {
        loop_.iter_range = self.call(ENTRIES, vec![std::mem::take(&mut loop_.iter_range)]);
        let names = [Some(std::mem::replace(&mut loop_.iter_var, ENTRY.into())), loop_.iter_var2.take()];
        for (index, name) in names.into_iter().flatten().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let (entry, at) = (self.name(ENTRY), self.int(index as i64));
            let part = self.call(operators::INDEX, vec![entry, at]);
            let step = std::mem::take(&mut loop_.loop_step);
            loop_.loop_step = self.bind(name, part, step);
        }
    }

    /// A name for a value: a loop over nothing.
    fn bind(&mut self, name: String, value: IdedExpr, within: IdedExpr) -> IdedExpr {
        let bind = ComprehensionExpr {
            iter_range: self.expr(Expr::List(ListExpr::new(Vec::new()))),
            iter_var: "#unused".into(),
            iter_var2: None,
            loop_cond: self.bool(false),
            loop_step: self.name(&name),
            accu_var: name,
            accu_init: value,
            result: within,
        };
        self.expr(Expr::Comprehension(Box::new(bind)))
    }
}
