//! `RUN --device=name[,required]` (instructions/commands_rundevice.go).

use super::error::suggest;
use super::go::{parse_bool, quote};
use super::mount::csv;

/// `RUN --device`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `vendor.com/class=name`.
    pub name: String,
    /// Without it the command can't run.
    pub required: bool,
}

/// Reads the value of a flag.
pub fn parse_device(value: &str) -> Result<Device, String> {
    let mut device = Device::default();
    for field in csv(value).map_err(|why| why.replacen("csv mounts", "csv devices", 1))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                device.required =
                    parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
            }
            ("name", Some(_)) if !device.name.is_empty() => {
                return Err(format!("device name already set to {}", device.name));
            }
            ("name", Some(value)) => value.clone_into(&mut device.name),
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            (_, Some(_)) => {
                return Err(suggest(
                    format!("unexpected key '{key}' in '{field}'"),
                    &key,
                    &["name", "required"],
                    true,
                ));
            }
        }
    }
    Ok(device)
}

impl Device {
    /// Why a command can't run where there are no such devices at all; nothing if it can do without.
    pub fn missing(&self) -> Option<String> {
        self.required.then(|| format!("required device {} is not registered", quote(&self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_buildkit_reads_them() {
        let device = |name: &str, required| Ok(Device { name: name.into(), required });
        assert_eq!(parse_device("vendor.com/gpu=0"), device("vendor.com/gpu=0", false));
        assert_eq!(parse_device("name=vendor.com/gpu,required"), device("vendor.com/gpu", true));
        assert_eq!(parse_device("gpu,required=false"), device("gpu", false));
        assert_eq!(parse_device("a,b").unwrap_err(), "invalid field 'b' must be a key=value pair");
        assert_eq!(parse_device("a,name=b").unwrap_err(), "device name already set to a");
        assert!(parse_device("a,requird=1").unwrap_err().starts_with("unexpected key 'requird' in"));
        let missing = parse_device("gpu,required").unwrap().missing();
        assert_eq!(missing.as_deref(), Some("required device \"gpu\" is not registered"));
    }
}
