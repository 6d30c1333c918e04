//! Types of expressions (cel-go `common/types/types.go`), and how cel-go names them in errors.

use super::declared::Declared;
use std::fmt;
use std::sync::Arc;

/// Most parts of one type. Expressions can double a type with every call; a type that is larger is `dyn`.
const MOST_PARTS: u32 = 200;

/// A type.
#[derive(Debug, Clone)]
pub enum Type {
    /// Known when it runs.
    Dyn,
    /// Of what is wrong already.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Duration,
    Timestamp,
    /// One of Kubernetes' own, which only functions know: `kubernetes.URL`, `net.IP`.
    Named(&'static str),
    /// An object with fields.
    Object(Arc<Declared>),
    /// A parameter of a function's declaration, or what stands for one until it is known.
    Param(u32),
    /// A type of others.
    Made(Arc<Made>),
}

/// A type that is made of others.
#[derive(Debug)]
pub struct Made {
    pub kind: Kind,
    pub of: Vec<Type>,
    parts: u32,
}

/// What is made of other types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of its elements.
    List,
    /// Of keys and values.
    Map,
    /// Of what it may hold.
    Optional,
    /// The type of a type; of nothing: of any.
    Type,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Map => "map",
            Self::Optional => "optional_type",
            Self::Type => "type",
        }
    }
}

impl Type {
    /// A type of others.
    pub fn made(kind: Kind, of: Vec<Self>) -> Self {
        let parts = of.iter().map(Self::parts).sum::<u32>() + 1;
        if parts > MOST_PARTS { Self::Dyn } else { Self::Made(Arc::new(Made { kind, of, parts })) }
    }

    pub fn list(of: Self) -> Self {
        Self::made(Kind::List, vec![of])
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::made(Kind::Map, vec![key, value])
    }

    pub fn optional(of: Self) -> Self {
        Self::made(Kind::Optional, vec![of])
    }

    pub fn type_of(of: Self) -> Self {
        Self::made(Kind::Type, vec![of])
    }

    fn parts(&self) -> u32 {
        match self {
            Self::Made(made) => made.parts,
            _ => 1,
        }
    }

    /// What it is made of, if it is of this kind.
    pub fn parts_of(&self, kind: Kind) -> Option<&[Self]> {
        match self {
            Self::Made(made) if made.kind == kind => Some(&made.of),
            _ => None,
        }
    }

    /// What an optional one may hold.
    pub fn unwrap_optional(&self) -> Option<&Self> {
        self.parts_of(Kind::Optional)?.first()
    }

    /// What a list is of.
    pub fn element(&self) -> Option<&Self> {
        self.parts_of(Kind::List)?.first()
    }

    /// Whether nothing needs to be known of it.
    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether null is a value of it.
    pub fn is_nullable(&self) -> bool {
        matches!(
            self,
            Self::Null | Self::Object(_) | Self::Named(_) | Self::Duration | Self::Timestamp | Self::Dyn
        ) || self.unwrap_optional().is_some()
    }

    /// Whether all its values are of one size (`isScalar`).
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            other => other.unwrap_optional().is_some_and(Self::is_scalar),
        }
    }

    /// Whether the two are the same; `params`: whether their parameters must be, too.
    fn same(&self, other: &Self, params: bool) -> bool {
        match (self, other) {
            (Self::Param(a), Self::Param(b)) => !params || a == b,
            (Self::Named(a), Self::Named(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            (Self::Made(a), Self::Made(b)) => {
                a.kind == b.kind
                    && a.of.len() == b.of.len()
                    && a.of.iter().zip(&b.of).all(|(a, b)| a.same(b, params))
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether the two are the same (`IsExactType`).
    pub fn is(&self, other: &Self) -> bool {
        self.same(other, true)
    }

    /// Whether the two are the same but for parameters (`IsEquivalentType`).
    pub fn is_like(&self, other: &Self) -> bool {
        self.same(other, false)
    }

    /// Its name (`FormatCELType`); objects of a schema are named after where they are below these.
    pub fn name(&self, roots: &[(&str, &Arc<Declared>)]) -> String {
        match self {
            Self::Dyn => "dyn".into(),
            Self::Error => "!error!".into(),
            Self::Null => "null".into(),
            Self::Bool => "bool".into(),
            Self::Int => "int".into(),
            Self::Uint => "uint".into(),
            Self::Double => "double".into(),
            Self::Text => "string".into(),
            Self::Bytes => "bytes".into(),
            Self::Duration => "duration".into(),
            Self::Timestamp => "timestamp".into(),
            Self::Named(name) => (*name).into(),
            Self::Object(object) => {
                let name = roots.iter().find_map(|(name, root)| root.name_of(name, object));
                name.or_else(|| object.own_name().map(Into::into)).unwrap_or_else(|| "object".into())
            }
            Self::Param(number) => format!("_var{number}"),
            Self::Made(made) if made.of.is_empty() => made.kind.name().into(),
            Self::Made(made) => {
                let of: Vec<_> = made.of.iter().map(|one| one.name(roots)).collect();
                format!("{}({})", made.kind.name(), of.join(", "))
            }
        }
    }
}

impl Type {
    /// Its name where it is a value (`Type.String`).
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "null_type".into(),
            Self::Duration => "google.protobuf.Duration".into(),
            Self::Timestamp => "google.protobuf.Timestamp".into(),
            Self::Made(made) if !made.of.is_empty() => {
                let of: Vec<_> = made.of.iter().map(Self::shown).collect();
                format!("{}({})", made.kind.name(), of.join(", "))
            }
            other => other.name(&[]),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name(&[]))
    }
}
