//! Whether a value of one type may stand where another is wanted, and what that says of types that are not known yet (cel-go
//! `checker/types.go`, `checker/mapping.go`).

use super::types::{Kind, Type};

/// Most steps for one expression: types that stand for each other can take very many.
const MOST_STEPS: u32 = 2_000_000;

/// What is known of the types that stand for others.
#[derive(Debug, Default)]
pub struct Solver {
    known: Vec<Option<Type>>,
    /// What was set in which order, and what was there before: so that a try can be undone.
    trail: Vec<(usize, Option<Type>)>,
    steps: u32,
}

impl Solver {
    /// A new type of which nothing is known.
    pub fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Param(self.known.len() as u32 - 1)
    }

    /// Numbers for as many new types.
    pub fn fresh_many(&mut self, count: u32) -> u32 {
        let first = self.known.len() as u32;
        self.known.extend((0..count).map(|_| None));
        first
    }

    /// Whether there was too much to think of. Then everything may be anything.
    pub fn gave_up(&self) -> bool {
        self.steps > MOST_STEPS
    }

    fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_add(1);
        !self.gave_up()
    }

    fn find(&self, type_: &Type) -> Option<Type> {
        match type_ {
            Type::Param(number) => self.known.get(*number as usize)?.clone(),
            _ => None,
        }
    }

    fn set(&mut self, param: &Type, to: Type) {
        if let Type::Param(number) = param
            && let Some(known) = self.known.get_mut(*number as usize)
        {
            self.trail.push((*number as usize, known.replace(to)));
        }
    }

    /// Whether all of one list may stand for those of another. If not, nothing is learned.
    pub fn assignable_all(&mut self, to: &[Type], from: &[Type]) -> bool {
        let before = self.trail.len();
        let fits = to.len() == from.len() && to.iter().zip(from).all(|(to, from)| self.fits(to, from));
        if !fits {
            while self.trail.len() > before {
                if let Some((at, old)) = self.trail.pop() {
                    self.known[at] = old;
                }
            }
        }
        fits
    }

    /// Whether one may stand for the other.
    pub fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.assignable_all(std::slice::from_ref(to), std::slice::from_ref(from))
    }

    fn fits(&mut self, one: &Type, other: &Type) -> bool {
        if !self.step() {
            return true;
        }
        if let Type::Param(_) = other {
            let (valid, known) = self.stands_for(one, other);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(_) = one {
            return self.stands_for(other, one).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, other) => other.is_nullable(),
            (one, Type::Null) => one.is_nullable(),
            (Type::Made(a), Type::Made(b)) if a.kind == b.kind => {
                a.kind == Kind::Type
                    || a.of.len() == b.of.len() && a.of.iter().zip(&b.of).all(|(a, b)| self.fits(a, b))
            }
            (Type::Made(_), _) | (_, Type::Made(_)) => false,
            (one, other) => one.is(other),
        }
    }

    /// Whether a type may be what a parameter stands for, and whether something was known of the parameter.
    fn stands_for(&mut self, one: &Type, param: &Type) -> (bool, bool) {
        if one.is(param) {
            return (true, true);
        }
        if let Some(known) = self.find(param) {
            if one.is(&known) {
                return (true, true);
            }
            if !self.fits(one, &known) {
                return (false, true);
            }
            let general = if less_specific(one, &known) { one.clone() } else { known };
            if self.is_not_in(param, &general) {
                self.set(param, general);
            }
            return (true, true);
        }
        if self.is_not_in(param, one) {
            self.set(param, one.clone());
            return (true, false);
        }
        (false, false)
    }

    fn is_not_in(&mut self, param: &Type, within: &Type) -> bool {
        if !self.step() {
            return false;
        }
        if param.is(within) {
            return false;
        }
        match within {
            Type::Param(_) => match self.find(within) {
                Some(known) => self.is_not_in(param, &known),
                None => true,
            },
            Type::Made(made) => made.of.iter().all(|one| self.is_not_in(param, one)),
            _ => true,
        }
    }

    /// A type with what is known of its parameters; of the others, if `all`, that they may be anything.
    pub fn substitute(&mut self, type_: &Type, all: bool) -> Type {
        if !self.step() {
            return Type::Dyn;
        }
        match type_ {
            Type::Param(_) => match self.find(type_) {
                Some(known) => self.substitute(&known, all),
                None if all => Type::Dyn,
                None => type_.clone(),
            },
            Type::Made(made) => {
                let of = made.of.iter().map(|one| self.substitute(one, all)).collect();
                Type::made(made.kind, of)
            }
            other => other.clone(),
        }
    }
}

/// The more general one of two types.
pub fn most_general(one: &Type, other: &Type) -> Type {
    if less_specific(one, other) { one.clone() } else { other.clone() }
}

fn less_specific(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::Made(a), Type::Made(b)) if a.kind == b.kind => {
            a.kind == Kind::Type
                || a.of.len() == b.of.len() && a.of.iter().zip(&b.of).all(|(a, b)| less_specific(a, b))
        }
        (one, other) => one.is(other),
    }
}

/// A declared type with its letters replaced by new types from this number on.
pub fn instantiate(type_: &Type, first: u32) -> Type {
    match type_ {
        Type::Param(number) => Type::Param(first + number),
        Type::Made(made) => {
            Type::made(made.kind, made.of.iter().map(|one| instantiate(one, first)).collect())
        }
        other => other.clone(),
    }
}
