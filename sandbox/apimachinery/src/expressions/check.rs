//! The type checker (cel-go `checker/checker.go`): what type each part of an expression has, which overloads its calls may mean, and what
//! is wrong with it, in cel-go's words.

use super::Declarations;
use super::functions::{self, Overload};
use super::solve::{Solver, instantiate, most_general};
use super::types::{Kind, Type};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr,
    StructExpr, operators,
};
use std::collections::{BTreeSet, HashMap};

/// What says which part of an expression something is about: no part lies where another does.
pub type Place = usize;

/// The place of a part.
pub fn place(expression: &IdedExpr) -> Place {
    std::ptr::from_ref(expression) as usize
}

/// Something wrong at a part of an expression.
#[derive(Debug)]
pub struct Fault {
    /// The part's number, by which its place in the text is known.
    pub id: u64,
    pub message: String,
}

/// What is known of an expression.
#[derive(Debug, Default)]
pub struct Findings {
    pub types: HashMap<Place, Type>,
    pub overloads: HashMap<Place, Vec<&'static str>>,
    /// Names that are resolved otherwise than part by part: `authorizer.requestResource`.
    pub names: HashMap<Place, String>,
    /// What is declared and used.
    pub used: BTreeSet<String>,
    pub faults: Vec<Fault>,
    /// Whether it was too much to think through.
    pub gave_up: bool,
}

/// Finds out all types of an expression.
pub fn check(expression: &IdedExpr, declarations: &Declarations<'_>) -> Findings {
    let mut checker =
        Checker { declarations, solver: Solver::default(), scopes: Vec::new(), found: Findings::default() };
    checker.check(expression);
    let Checker { mut solver, mut found, .. } = checker;
    for type_ in found.types.values_mut() {
        *type_ = solver.substitute(type_, true);
    }
    found.gave_up = solver.gave_up();
    found
}

struct Checker<'c> {
    declarations: &'c Declarations<'c>,
    solver: Solver,
    /// Variables of the macros around, the innermost last.
    scopes: Vec<(&'c str, Type)>,
    found: Findings,
}

impl<'c> Checker<'c> {
    fn fault(&mut self, id: u64, message: String) {
        self.found.faults.push(Fault { id, message });
    }

    fn name(&self, type_: &Type) -> String {
        self.declarations.name(type_)
    }

    fn set(&mut self, at: &IdedExpr, type_: Type) {
        self.found.types.insert(place(at), type_);
    }

    fn get(&self, at: &IdedExpr) -> Type {
        self.found.types.get(&place(at)).cloned().unwrap_or(Type::Error)
    }

    fn check(&mut self, at: &'c IdedExpr) {
        let type_ = match &at.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.ident(at, name),
            Expr::Select(select) => self.select(at, select),
            Expr::Call(call) if call.func_name == operators::OPT_SELECT => self.optional_select(at, call),
            Expr::Call(call) => self.call(at, call),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => self.map(map),
            Expr::Struct(fields) => self.fields(at, fields),
            Expr::Comprehension(loop_) => self.comprehension(loop_),
            Expr::Unspecified => Type::Error,
        };
        self.set(at, type_);
    }

    /// What a name means: a variable, or a type.
    fn find(&mut self, name: &str) -> Option<Type> {
        let bare = name.strip_prefix('.').unwrap_or(name);
        if let Some((_, type_)) = self.scopes.iter().rev().find(|(one, _)| *one == name) {
            return Some(type_.clone());
        }
        if let Some(type_) = self.declarations.variable(bare) {
            self.found.used.insert(bare.to_string());
            return Some(type_.clone());
        }
        functions::type_named(bare).map(Type::type_of)
    }

    fn ident(&mut self, at: &IdedExpr, name: &str) -> Type {
        self.find(name).unwrap_or_else(|| self.undeclared(at, name))
    }

    fn undeclared(&mut self, at: &IdedExpr, name: &str) -> Type {
        self.fault(at.id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn select(&mut self, at: &IdedExpr, select: &'c SelectExpr) -> Type {
        if !select.test
            && let Some(name) = qualified(at)
            && let Some(type_) = self.find(&name)
        {
            self.found.names.insert(place(at), name);
            return type_;
        }
        let field = self.field(at, &select.operand, &select.field, false);
        if select.test { Type::Bool } else { self.solver.substitute(&field, false) }
    }

    fn optional_select(&mut self, at: &IdedExpr, call: &'c CallExpr) -> Type {
        let (None, [operand, field]) = (&call.target, call.args.as_slice()) else {
            let member = if call.target.is_some() { " member call with" } else { "" };
            let count = call.args.len();
            self.fault(
                at.id,
                format!(
                    "unsupported optional field selection: incorrect signature.{member} argument count: {count}"
                ),
            );
            return Type::Error;
        };
        let Expr::Literal(LiteralValue::String(name)) = &field.expr else {
            self.fault(field.id, "unsupported optional field selection".into());
            return Type::Error;
        };
        self.found.overloads.insert(place(at), vec!["select_optional_field"]);
        let field = self.field(at, operand, name.inner(), true);
        self.solver.substitute(&field, false)
    }

    fn field(&mut self, at: &IdedExpr, operand: &'c IdedExpr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let type_ = self.get(operand);
        let type_ = self.solver.substitute(&type_, false);
        let (target, was_optional) = match type_.unwrap_optional() {
            Some(within) => (within.clone(), true),
            None => (type_, false),
        };
        let result = match &target {
            Type::Object(object) => match object.get(field) {
                Some(field) => field.type_of(),
                None => {
                    self.fault(at.id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Named(name) if name.starts_with("kubernetes.") => {
                self.fault(at.id, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.solver.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            other => match other.parts_of(Kind::Map) {
                Some(of) => of[1].clone(),
                None => {
                    if !other.is_dyn_or_error() {
                        let name = self.name(other);
                        self.fault(at.id, format!("type '{name}' does not support field selection"));
                    }
                    Type::Dyn
                }
            },
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn call(&mut self, at: &IdedExpr, call: &'c CallExpr) -> Type {
        for arg in &call.args {
            self.check(arg);
        }
        let Some(target) = &call.target else {
            let name = call.func_name.strip_prefix('.').unwrap_or(&call.func_name);
            return match functions::find(name) {
                None => self.undeclared(at, &call.func_name),
                Some((name, overloads)) => self.overload(at, name, overloads, None, &call.args),
            };
        };
        // A function may have a name of several parts.
        if let Some(prefix) = qualified(target) {
            let prefix = prefix.strip_prefix('.').unwrap_or(&prefix);
            if let Some((name, overloads)) = functions::find(&format!("{prefix}.{}", call.func_name)) {
                self.found.names.insert(place(at), name.into());
                return self.overload(at, name, overloads, None, &call.args);
            }
        }
        self.check(target);
        match functions::find(&call.func_name) {
            None => self.undeclared(at, &call.func_name),
            Some((name, overloads)) => self.overload(at, name, overloads, Some(target), &call.args),
        }
    }

    fn overload(
        &mut self,
        at: &IdedExpr,
        name: &str,
        overloads: &'static [Overload],
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Type {
        let types: Vec<_> = target.into_iter().chain(args).map(|one| self.get(one)).collect();
        if name == operators::LOGICAL_AND || name == operators::LOGICAL_OR {
            return self.logical(at, overloads, args, &types);
        }
        let mut result: Option<Type> = None;
        let mut chosen = Vec::new();
        for overload in overloads.iter().filter(|overload| overload.member == target.is_some()) {
            let first = self.solver.fresh_many(overload.params);
            let wanted: Vec<_> = overload.args.iter().map(|arg| instantiate(arg, first)).collect();
            if !self.solver.assignable_all(&types, &wanted) {
                continue;
            }
            chosen.push(overload.id);
            let own = self.solver.substitute(&instantiate(&overload.result, first), false);
            result = Some(match result {
                None => own,
                Some(before) if matches!(before, Type::Dyn) || own.is(&before) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types: Vec<_> = types.iter().map(|type_| self.solver.substitute(type_, true)).collect();
            let mut names: Vec<_> = types.iter().map(|type_| self.name(type_)).collect();
            let target = target.map(|_| format!("{}.", names.remove(0))).unwrap_or_default();
            let signature = format!("{target}({})", names.join(", "));
            self.fault(at.id, format!("found no matching overload for '{name}' applied to '{signature}'"));
            return Type::Error;
        };
        self.found.overloads.insert(place(at), chosen);
        result
    }

    fn logical(
        &mut self,
        at: &IdedExpr,
        overloads: &'static [Overload],
        args: &[IdedExpr],
        types: &[Type],
    ) -> Type {
        let mut fine = true;
        for (arg, type_) in args.iter().zip(types) {
            if !self.solver.assignable(type_, &Type::Bool) {
                self.mismatch(arg.id, &Type::Bool, type_);
                fine = false;
            }
        }
        if !fine {
            return Type::Error;
        }
        self.found.overloads.insert(place(at), overloads.iter().map(|overload| overload.id).collect());
        Type::Bool
    }

    fn mismatch(&mut self, id: u64, expected: &Type, found: &Type) {
        let (expected, found) = (self.name(expected), self.name(found));
        self.fault(id, format!("expected type '{expected}' but found '{found}'"));
    }

    /// The type of an element or value that may be left out if it is an optional one.
    fn optional_value(&mut self, at: &IdedExpr, is_optional: bool) -> Type {
        let type_ = self.get(at);
        if !is_optional {
            return type_;
        }
        match type_.unwrap_optional() {
            Some(within) => within.clone(),
            None => {
                if !matches!(type_, Type::Dyn) {
                    self.mismatch(at.id, &Type::optional(type_.clone()), &type_);
                }
                type_
            }
        }
    }

    /// The type of two values of one list. That they should be alike is checked later (`literals`), since some lists may be of anything.
    fn join(&mut self, before: Option<Type>, own: Type) -> Type {
        match before {
            None => own,
            Some(before) if self.solver.assignable(&before, &own) => most_general(&before, &own),
            Some(_) => Type::Dyn,
        }
    }

    fn list(&mut self, list: &'c ListExpr) -> Type {
        let mut of = None;
        for (index, element) in list.elements.iter().enumerate() {
            self.check(element);
            let own = self.optional_value(element, list.optional_indices.contains(&index));
            of = Some(self.join(of, own));
        }
        Type::list(of.unwrap_or_else(|| self.solver.fresh()))
    }

    fn map(&mut self, map: &'c MapExpr) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            self.check(&entry.key);
            let own = self.get(&entry.key);
            keys = Some(self.join(keys, own));
            self.check(&entry.value);
            let own = self.optional_value(&entry.value, entry.optional);
            values = Some(self.join(values, own));
        }
        let keys = keys.unwrap_or_else(|| self.solver.fresh());
        Type::map(keys, values.unwrap_or_else(|| self.solver.fresh()))
    }

    /// An object that is made. There is no type in Kubernetes' expressions that could be, but for those of protobuf.
    fn fields(&mut self, at: &IdedExpr, made: &'c StructExpr) -> Type {
        let result = match self.find(&made.type_name) {
            None => self.undeclared(at, &made.type_name),
            Some(found) => match found.parts_of(Kind::Type).map(|of| of.first().cloned()) {
                None => {
                    let name = self.name(&found);
                    self.fault(at.id, format!("'{name}' is not a type"));
                    Type::Error
                }
                Some(Some(Type::Dyn | Type::Duration | Type::Timestamp)) => Type::Dyn,
                Some(of) => {
                    let name = of.map_or_else(|| "type".into(), |of| self.name(&of));
                    self.fault(at.id, format!("'{name}' is not a message type"));
                    Type::Error
                }
            },
        };
        for field in &made.entries {
            if let EntryExpr::StructField(field) = &field.expr {
                self.check(&field.value);
            }
        }
        result
    }

    fn comprehension(&mut self, loop_: &'c ComprehensionExpr) -> Type {
        self.check(&loop_.iter_range);
        self.check(&loop_.accu_init);
        let range = self.get(&loop_.iter_range);
        let range = self.solver.substitute(&range, false);
        let made = self.get(&loop_.accu_init);
        let before = self.scopes.len();
        self.scopes.push((&loop_.accu_var, made.clone()));
        let (first, second) = self.turns(loop_, &range);
        self.scopes.push((&loop_.iter_var, first));
        if let Some(name) = &loop_.iter_var2 {
            self.scopes.push((name, second));
        }
        self.check(&loop_.loop_cond);
        self.assert(&loop_.loop_cond, &Type::Bool);
        self.check(&loop_.loop_step);
        self.assert(&loop_.loop_step, &made);
        self.scopes.truncate(before + 1);
        self.check(&loop_.result);
        self.scopes.truncate(before);
        let result = self.get(&loop_.result);
        self.solver.substitute(&result, false)
    }

    /// The types of a macro's variables, by what it goes through.
    fn turns(&mut self, loop_: &ComprehensionExpr, range: &Type) -> (Type, Type) {
        let two = loop_.iter_var2.is_some();
        if let Some(of) = range.element() {
            return if two { (Type::Int, of.clone()) } else { (of.clone(), Type::Dyn) };
        }
        if let Some(of) = range.parts_of(Kind::Map) {
            return (of[0].clone(), of[1].clone());
        }
        if matches!(range, Type::Dyn | Type::Error | Type::Param(_)) {
            self.solver.assignable(&Type::Dyn, range);
            return (Type::Dyn, Type::Dyn);
        }
        let name = self.name(range);
        self.fault(
            loop_.iter_range.id,
            format!(
                "expression of type '{name}' cannot be range of a comprehension (must be list, map, or dynamic)"
            ),
        );
        (Type::Error, Type::Error)
    }

    fn assert(&mut self, at: &IdedExpr, wanted: &Type) {
        let found = self.get(at);
        if !self.solver.assignable(wanted, &found) {
            self.mismatch(at.id, wanted, &found);
        }
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::Text,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// Names with dots between, if that is all there is (`containers.ToQualifiedName`).
fn qualified(expression: &IdedExpr) -> Option<String> {
    let mut parts = Vec::new();
    let mut at = expression;
    loop {
        match &at.expr {
            Expr::Ident(name) => {
                parts.push(name.as_str());
                parts.reverse();
                return Some(parts.join("."));
            }
            Expr::Select(select) if !select.test => {
                parts.push(&select.field);
                at = &select.operand;
            }
            _ => return None,
        }
    }
}
