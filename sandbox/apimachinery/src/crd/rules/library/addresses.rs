//! Addresses and networks (k8s.io/apiserver `pkg/cel/library/{ip,cidr}.go`).

use super::{Result, fail};
use cel::common::types::{self, Type};
use cel::common::value::CowVal;
use cel::extractors::This;
use cel::objects::Opaque;
use cel::{Context, DeclarationError, Env, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

opaque!(IpValue, IpAddr, "net.IP");
opaque!(CidrValue, (IpAddr, u8), "net.CIDR");

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(network) & mask == u32::from(address) & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(network) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

/// The network with no bits behind its prefix.
fn masked((address, bits): (IpAddr, u8)) -> (IpAddr, u8) {
    let address = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    (address, bits)
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Lets `string(…)` take them.
pub fn add_texts(env: &mut Env) {
    let _never_fails =
        env.add_overload("string", "ip_to_string", vec![Type::new_opaque_type("net.IP")], |args| {
            text(&args, |value| Ok(IpValue::from(value, "string")?.to_string()))
        });
    let _never_fails =
        env.add_overload("string", "cidr_to_string", vec![Type::new_opaque_type("net.CIDR")], |args| {
            text(&args, |value| {
                let (address, bits) = CidrValue::from(value, "string")?;
                Ok(format!("{address}/{bits}"))
            })
        });
}

fn text<'b, 'v>(args: &[CowVal<'b, 'v>], of: fn(&Value) -> Result<String>) -> Result<CowVal<'b, 'v>> {
    let value = args.first().and_then(|arg| Value::try_from(arg.as_ref()).ok());
    match value {
        Some(value) => Ok(CowVal::owned(types::CelString::from(of(&value)?))),
        None => fail("string", "no such overload"),
    }
}

/// Names them.
pub fn add(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    fn address(value: &Value, function: &str) -> Result<IpAddr> {
        match value {
            Value::String(text) => match text.parse() {
                Ok(address) => Ok(address),
                Err(_) => {
                    fail(function, format!("IP Address {text:?} parse error during conversion from string"))
                }
            },
            other => IpValue::from(other, function).copied(),
        }
    }
    // Of a text, and of a network.
    context.add_function("ip", |This(this): This<Value>| -> Result {
        match CidrValue::from(&this, "ip") {
            Ok((address, _)) => Ok(IpValue::value(*address)),
            Err(_) => Ok(IpValue::value(address(&this, "ip")?)),
        }
    })?;
    context.add_function("ip.isCanonical", |text: Arc<String>| -> Result {
        let address = address(&Value::String(text.clone()), "ip.isCanonical")?;
        Ok(Value::Bool(address.to_string() == *text))
    })?;
    let kind = |name: &'static str, is: fn(&IpAddr) -> bool| {
        move |This(this): This<Value>| -> Result { Ok(Value::Bool(is(IpValue::from(&this, name)?))) }
    };
    context.add_function("isLinkLocalUnicast", kind("isLinkLocalUnicast", is_link_local))?;
    context.add_function(
        "isLinkLocalMulticast",
        kind("isLinkLocalMulticast", |address| match address {
            IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        }),
    )?;
    context.add_function(
        "isGlobalUnicast",
        kind("isGlobalUnicast", |address| {
            let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
            !broadcast
                && !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !is_link_local(address)
        }),
    )?;
    context.add_function("isIP", |text: Arc<String>| text.parse::<IpAddr>().is_ok())?;
    context.add_function("family", |This(this): This<Value>| -> Result {
        Ok(Value::Int(if IpValue::from(&this, "family")?.is_ipv4() { 4 } else { 6 }))
    })?;
    context.add_function("isLoopback", |This(this): This<Value>| -> Result {
        Ok(Value::Bool(IpValue::from(&this, "isLoopback")?.is_loopback()))
    })?;
    context.add_function("isUnspecified", |This(this): This<Value>| -> Result {
        Ok(Value::Bool(IpValue::from(&this, "isUnspecified")?.is_unspecified()))
    })?;
    context.add_function("cidr", |text: Arc<String>| -> Result {
        match cidr(&text) {
            Some(parsed) => Ok(CidrValue::value(parsed)),
            None => fail("cidr", "network address parse error during conversion from string"),
        }
    })?;
    context.add_function("isCIDR", |text: Arc<String>| cidr(&text).is_some())?;
    context.add_function("containsIP", |This(this): This<Value>, other: Value| -> Result {
        let network = *CidrValue::from(&this, "containsIP")?;
        Ok(Value::Bool(contains(network, address(&other, "containsIP")?)))
    })?;
    context.add_function("containsCIDR", |This(this): This<Value>, other: Value| -> Result {
        let network = *CidrValue::from(&this, "containsCIDR")?;
        let inner = match &other {
            Value::String(text) => match cidr(text) {
                Some(inner) => inner,
                None => {
                    return fail("containsCIDR", "network address parse error during conversion from string");
                }
            },
            other => *CidrValue::from(other, "containsCIDR")?,
        };
        Ok(Value::Bool(inner.1 >= network.1 && contains(network, inner.0)))
    })?;
    context.add_function("masked", |This(this): This<Value>| -> Result {
        Ok(CidrValue::value(masked(*CidrValue::from(&this, "masked")?)))
    })?;
    context.add_function("prefixLength", |This(this): This<Value>| -> Result {
        Ok(Value::Int(CidrValue::from(&this, "prefixLength")?.1.into()))
    })
}
