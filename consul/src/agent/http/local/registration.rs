//! `PUT /v1/agent/service/register` and `/v1/agent/check/register`: reads and validates the whole
//! definition, the nested sidecar and all checks included, before anything of it is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    ApiError, Call, Check, Context, Definition, Fields, Invalid, Origin, Reply, SIDECAR_SUFFIX,
    Service, Source, State, Target, Thresholds, body,
};
use crate::agent::catalog::SERVICE_MAINTENANCE;
use crate::agent::duration;

/// The ports from which Consul chooses for sidecars that name none.
const SIDECAR_PORTS: std::ops::RangeInclusive<u16> = 21000..=21255;
/// The fields of a service definition.
const FIELDS: [&str; 20] = [
    "Address",
    "Check",
    "Checks",
    "Connect",
    "EnableTagOverride",
    "ID",
    "Kind",
    "Locality",
    "Meta",
    "Name",
    "Namespace",
    "Partition",
    "Port",
    "Ports",
    "Proxy",
    "SocketPath",
    "TaggedAddresses",
    "Tags",
    "Token",
    "Weights",
];
const BAD_STATUS: &str = "Status for checks must 'passing', 'warning', 'critical'";

/// Registers a service, and the sidecar inside of it.
pub(super) fn register(context: &Context<'_>, call: &Call) -> Result<Reply, ApiError> {
    let map = body::object(&call.body)?;
    let fields = Fields::new(&map, "ServiceDefinition");
    fields.only(&FIELDS)?;
    let service = service(fields)?;
    let checks = checks(fields, "check")?;
    let nested = match fields.object("Connect")? {
        None => None,
        Some(connect) => connect.object("SidecarService")?,
    };
    let sidecar = match nested {
        None => None,
        Some(nested) => {
            nested.only(&FIELDS)?;
            let checks = sidecar_checks(nested)?;
            let sidecar = Service::from_definition(nested, Origin::Agent)?;
            let sidecar = sidecar.into_sidecar_of(&service);
            validate_meta(&sidecar)?;
            violations(&sidecar, false, "Failed Validation: ")?;
            Some((sidecar, checks))
        }
    };
    let replace = call.query.has("replace-existing-checks")
        && matches!(call.query.first("replace-existing-checks"), "" | "true");
    context.write(|state, now, _| {
        add(state, service, checks, replace, now)?;
        if let Some((mut sidecar, checks)) = sidecar {
            if sidecar.port == 0 {
                sidecar.port = free_port(state, &sidecar.id)?;
            }
            let checks = checks.unwrap_or_else(|| default_checks(&sidecar));
            add(state, sidecar, checks, replace, now)?;
        }
        Ok(Reply::empty())
    })
}

fn service(fields: Fields<'_>) -> Result<Service, ApiError> {
    let service = Service::from_definition(fields, Origin::Agent)?;
    if fields.text("Name")?.is_empty() {
        return Err(ApiError::bad("Missing service name"));
    }
    if matches!(service.address.as_str(), "0.0.0.0" | "::" | "[::]") {
        return Err(ApiError::bad("Invalid service address"));
    }
    let (passing, warning) = service.weights;
    if passing < 1 || warning < 0 || passing > 65535 || warning > 65535 {
        let text = if passing < 1 {
            "Passing must be greater than 0"
        } else if warning < 0 {
            "Warning must be greater or equal than 0"
        } else {
            "DNS Weight must be between 0 and 65535"
        };
        return Err(ApiError::bad(format!("Invalid Weights: {text}")));
    }
    validate_meta(&service)?;
    violations(&service, true, "Validation failed: ")?;
    Ok(service)
}

fn validate_meta(service: &Service) -> Result<(), ApiError> {
    let refuse = |text: String| Err(ApiError::bad(format!("Invalid Service Meta: {text}")));
    if service.meta.len() > 64 {
        return refuse("Node metadata cannot contain more than 64 key/value pairs".to_owned());
    }
    for (key, value) in &service.meta {
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let problem = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !plain {
            "Key contains invalid characters".to_owned()
        } else if key.len() > 128 {
            "Key is too long (limit: 128 characters)".to_owned()
        } else if key.starts_with("consul-") {
            "Key prefix 'consul-' is reserved for internal use".to_owned()
        } else if value.len() > 512 {
            "Value is too long (limit: 512 characters)".to_owned()
        } else {
            continue;
        };
        return refuse(format!("Couldn't load metadata pair ('{key}', '{value}'): {problem}"));
    }
    Ok(())
}

/// Refuses what Consul refuses, in the layout of its list of errors.
fn violations(service: &Service, needs_port: bool, prefix: &str) -> Result<(), ApiError> {
    let found = service.violations(needs_port);
    if found.is_empty() {
        return Ok(());
    }
    let plural = if found.len() == 1 { "error" } else { "errors" };
    let list: String = found.iter().map(|text| format!("\t* {text}\n")).collect();
    Err(ApiError::bad(format!("{prefix}{} {plural} occurred:\n{list}\n", found.len())))
}

/// The checks of a definition: `Check` first, then `Checks`.
fn checks(fields: Fields<'_>, what: &str) -> Result<Vec<Definition>, ApiError> {
    let one = fields.object("Check")?;
    let many = fields.objects("Checks")?;
    let given = one.into_iter().chain(many).filter(|check| !check.is_empty());
    given
        .map(|check| {
            Definition::from_fields(check).map_err(|invalid| match invalid {
                Invalid::Body(error) => error.into(),
                Invalid::Check(text) => ApiError::bad(format!("Invalid {what}: {text}")),
                Invalid::Status => ApiError::bad(BAD_STATUS),
            })
        })
        .collect()
}

fn sidecar_checks(fields: Fields<'_>) -> Result<Option<Vec<Definition>>, ApiError> {
    let checks = checks(fields, "check in sidecar_service")?;
    Ok((!checks.is_empty()).then_some(checks))
}

/// The two checks that Consul adds to a sidecar without any.
fn default_checks(sidecar: &Service) -> Vec<Definition> {
    let proxy = sidecar.proxy.clone().unwrap_or_default();
    let parent = sidecar.id.trim_end_matches(SIDECAR_SUFFIX).to_owned();
    let host = if sidecar.address.is_empty() { &proxy.local_address } else { &sidecar.address };
    let address = if host.contains(':') {
        format!("[{host}]:{}", sidecar.port)
    } else {
        format!("{host}:{}", sidecar.port)
    };
    let definition = |name: String, source, interval| Definition {
        id: String::new(),
        name,
        notes: String::new(),
        service_id: String::new(),
        status: None,
        source,
        interval,
        timeout: Duration::ZERO,
        thresholds: Thresholds::default(),
        deregister_after: None,
    };
    let interval = Duration::from_secs(10);
    vec![
        definition(
            "Connect Sidecar Listening".to_owned(),
            Source::Probe { target: Target::Tcp(address), interval, timeout: interval },
            interval,
        ),
        definition(
            format!("Connect Sidecar Aliasing {parent}"),
            Source::Alias { node: String::new(), service: parent },
            Duration::ZERO,
        ),
    ]
}

fn free_port(state: &State, sidecar: &str) -> Result<u16, ApiError> {
    let mut used = BTreeSet::new();
    for service in state.catalog.local().into_iter().flat_map(|node| node.services.values()) {
        if service.id == sidecar && SIDECAR_PORTS.contains(&service.port) {
            return Ok(service.port);
        }
        used.insert(service.port);
    }
    SIDECAR_PORTS.clone().find(|port| !used.contains(port)).ok_or_else(|| {
        ApiError::internal(format!(
            "no port provided for sidecar_service and none left in the configured range [{}, {}]",
            SIDECAR_PORTS.start(),
            SIDECAR_PORTS.end()
        ))
    })
}

fn add(
    state: &mut State,
    service: Service,
    definitions: Vec<Definition>,
    replace: bool,
    now: tokio::time::Instant,
) -> Result<(), ApiError> {
    let local = state.catalog.local_name().to_owned();
    let service = service.with_default_tagged_addresses();
    let (id, name) = (service.id.clone(), service.name.clone());
    state.catalog.put_service(&local, service, &mut state.index)?;
    let many = definitions.len() > 1;
    let mut kept = BTreeSet::new();
    for (number, definition) in definitions.iter().enumerate() {
        let check_id = match definition.id.as_str() {
            "" if many => format!("service:{id}:{}", number + 1),
            "" => format!("service:{id}"),
            given => given.to_owned(),
        };
        kept.insert(check_id.clone());
        let check_name = match definition.name.as_str() {
            "" => format!("Service '{name}' check"),
            given => given.to_owned(),
        };
        put(state, definition, check_id, check_name, &id, now, false)?;
    }
    if replace {
        let stale: Vec<String> = state
            .catalog
            .local()
            .into_iter()
            .flat_map(|node| node.checks.values())
            .filter(|check| check.service_id == id && !kept.contains(&check.id))
            .filter(|check| !check.id.starts_with(SERVICE_MAINTENANCE))
            .map(|check| check.id.clone())
            .collect();
        for check in stale {
            state.catalog.remove_check(&local, &check, &mut state.index);
        }
    }
    Ok(())
}

/// Stores a check; one that was there already keeps what it said.
fn put(
    state: &mut State,
    definition: &Definition,
    id: String,
    name: String,
    service: &str,
    now: tokio::time::Instant,
    alone: bool,
) -> Result<(), ApiError> {
    let local = state.catalog.local_name().to_owned();
    let generation = state.catalog.next_generation();
    let mut check = Check::new(definition, id, name, now, generation);
    if alone {
        // Consul shows the times of a check registered by itself even where they are zero.
        check.interval = duration::format(definition.interval);
        check.timeout = duration::format(definition.timeout);
    }
    service.clone_into(&mut check.service_id);
    if let Some(known) = state.catalog.local().and_then(|node| node.checks.get(&check.id)) {
        check.status = known.status;
        check.output = known.output.clone();
        check.critical_since = known.critical_since;
    }
    state.catalog.put_check(&local, check, &mut state.index)?;
    Ok(())
}

/// Registers a check by itself, for the node or for one of its services.
pub(super) fn register_check(context: &Context<'_>, call: &Call) -> Result<Reply, ApiError> {
    let map = body::object(&call.body)?;
    let fields = Fields::new(&map, "CheckDefinition");
    if fields.text("Name")?.is_empty() {
        return Err(ApiError::bad("Missing check name"));
    }
    let definition = Definition::from_fields(fields).map_err(|invalid| match invalid {
        Invalid::Body(error) => error.into(),
        Invalid::Check(text) => ApiError::bad(format!("Invalid check: {text}")),
        Invalid::Status => ApiError::bad("Bad check status"),
    })?;
    let service = definition.service_id.clone();
    let name = definition.name.clone();
    let id = if definition.id.is_empty() { name.clone() } else { definition.id.clone() };
    context.write(|state, now, _| {
        if !service.is_empty() && state.catalog.local_service(&service).is_none() {
            return Err(ApiError::missing(format!("ServiceID {service:?} does not exist")));
        }
        put(state, &definition, id, name, &service, now, true)?;
        Ok(Reply::empty())
    })
}
