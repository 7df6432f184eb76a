//! What is the same for all routes, added to what the handlers' attributes say.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use utoipa::PartialSchema as _;
use utoipa::openapi::{
    Components, Content, Object, OpenApi, PathItem, Ref, RefOr, Response, Schema, Type,
    example::ExampleBuilder,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    schema::ObjectBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::{
    super::routes::{PlaneKind, Route, allow, methods_of, routes_at},
    headers, problems,
};
use crate::{
    error::ErrorCode,
    problem::{MEDIA_TYPE, Wire},
};

/// Completes the document of a plane, by its routes.
pub(super) fn complete(document: &mut OpenApi, plane: PlaneKind) {
    let components = document.components.get_or_insert_default();
    add_components(components);
    sharpen(components);
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.delete].into_iter().flatten();
        let parameters = operations.filter_map(|operation| operation.parameters.as_mut()).flatten();
        parameters.for_each(sharpen_parameter);
    }
    for route in routes_at(plane) {
        let allowed = allow(&methods_of(route.path, plane));
        if let Some(item) = document.paths.paths.get_mut(route.path) {
            complete_path(item, route, &allowed);
        }
    }
    // A token may be asked for everywhere but where a route says otherwise.
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new::<_, _, String>(BEARER, [])]);
}

const BEARER: &str = "bearer";
const TRACEPARENT: &str = "traceparent";

fn add_components(components: &mut Components) {
    components.schemas.insert("Problem".to_owned(), Wire::schema());
    components.headers.extend(headers::components().map(|(name, header)| (name, header.into())));
    for code in ErrorCode::ALL {
        let example =
            ExampleBuilder::new().summary(code.title()).value(Some(problems::example(code))).build();
        components.examples.insert(code.as_str().to_owned(), example.into());
    }
    let traceparent = ParameterBuilder::new()
        .name(TRACEPARENT)
        .parameter_in(ParameterIn::Header)
        .description(Some("The trace that the request belongs to (W3C Trace Context)."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .example(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()))
        .required(utoipa::openapi::Required::False)
        .build();
    components.parameters.insert(TRACEPARENT.to_owned(), traceparent.into());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token that the node's operator has given out; only where the node asks for one.",
        ))
        .build();
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
}

/// 1 to 1,024 bytes in base64url, with or without padding: groups of four letters, and a rest of two, three or four whose
/// last one has no bits that are not used.
pub(super) const KEY_B64: &str = "^(?:(?:[A-Za-z0-9_-]{4}){0,341}[A-Za-z0-9_-][AQgw](?:==)?|\
     (?:[A-Za-z0-9_-]{4}){0,340}[A-Za-z0-9_-]{2}(?:[AEIMQUYcgkosw048]=?|[A-Za-z0-9_-]{2}))$";

/// Rules that a type's attributes have no word for.
fn sharpen(components: &mut Components) {
    if let Some(invalidation) = object(components, "Invalidation") {
        (invalidation.min_properties, invalidation.max_properties) = (Some(1), Some(1));
        if let Some(RefOr::T(Schema::Object(all))) = invalidation.properties.get_mut("all") {
            all.extensions = Some([("const", true)].into_iter().collect());
        }
    }
    if let Some(key) = object(components, "KeyBytes")
        && let Some(RefOr::T(Schema::Object(b64))) = key.properties.get_mut("b64")
    {
        b64.pattern = Some(KEY_B64.to_owned());
    }
    if let Some(RefOr::T(Schema::OneOf(key))) = components.schemas.get_mut("Key")
        && let Some(RefOr::T(Schema::Object(text))) = key.items.first_mut()
    {
        (text.min_length, text.max_length) = (Some(1), Some(crate::group::KEY_BYTES_MAX));
    }
}

/// As [`sharpen`], for what is no component.
fn sharpen_parameter(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(Parameter { name, schema: Some(RefOr::T(Schema::Object(text))), .. }) = parameter
        && name == "key_b64"
    {
        text.pattern = Some(KEY_B64.to_owned());
    }
}

fn object<'a>(components: &'a mut Components, name: &str) -> Option<&'a mut Object> {
    match components.schemas.get_mut(name) {
        Some(RefOr::T(Schema::Object(object))) => Some(object),
        _ => None,
    }
}

fn complete_path(item: &mut PathItem, route: &Route, allowed: &str) {
    for method in route.methods {
        let Some(operation) = operation_mut(item, method) else { continue };
        add_problems(operation, route);
        add_headers(operation, route);
        match route.scope {
            None => operation.security = Some(Vec::new()),
            Some(scope) => {
                let needed = format!("Where the node asks for tokens: the scope `{}`.", scope.as_str());
                let said = operation.description.take().filter(|said| !said.is_empty());
                operation.description =
                    Some(said.map_or(needed.clone(), |said| format!("{said}\n\n{needed}")));
            }
        }
    }
    let Some(asked) = item.get.as_ref().or(item.post.as_ref()) else { return };
    let options = options(asked, route, allowed);
    item.options = Some(options);
    if let Some(get) = item.get.as_ref().filter(|_| route.methods.contains(&Method::HEAD)) {
        item.head = Some(head(get));
    }
    if route.scope.is_some() {
        item.parameters = Some(vec![RefOr::Ref(Ref::new(format!("#/components/parameters/{TRACEPARENT}")))]);
    }
}

fn operation_mut<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match *method {
        Method::GET => item.get.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}

/// A response for each status that the route's problems have.
fn add_problems(operation: &mut Operation, route: &Route) {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in ErrorCode::ALL.into_iter().filter(|code| problems::may_answer(route, *code)) {
        by_status.entry(code.http_status().as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let titles: Vec<_> =
            codes.iter().map(|code| format!("{} (`{}`)", code.title(), code.as_str())).collect();
        let mut content = Content::new(Some(Ref::from_schema_name("Problem")));
        for code in codes {
            let example = Ref::new(format!("#/components/examples/{}", code.as_str()));
            content.examples.insert(code.as_str().to_owned(), RefOr::Ref(example));
        }
        let mut response = Response::new(titles.join("; "));
        response.content.insert(MEDIA_TYPE.to_owned(), content.into());
        operation.responses.responses.insert(status.to_string(), response.into());
    }
}

fn add_headers(operation: &mut Operation, route: &Route) {
    for (status, response) in &mut operation.responses.responses {
        if let (RefOr::T(response), Ok(status)) = (response, StatusCode::from_bytes(status.as_bytes())) {
            headers::add(response, route, status);
        }
    }
}

/// HEAD is GET without a body.
fn head(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = get.operation_id.as_deref().map(|id| renamed("head", id));
    head.summary = get.summary.as_deref().map(|summary| format!("{summary}: the headers"));
    head.description = None;
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

fn options(asked: &Operation, route: &Route, allowed: &str) -> Operation {
    let mut options = Operation::new();
    options.operation_id = asked.operation_id.as_deref().map(|id| renamed("options", id));
    options.summary = Some(format!("What `{}` answers", route.path));
    options.tags = Some(vec!["options".to_owned()]);
    options.security = Some(Vec::new());
    let in_path = |parameter: &&RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if matches!(parameter.parameter_in, ParameterIn::Path));
    let mut parameters: Vec<_> = asked.parameters.iter().flatten().filter(in_path).cloned().collect();
    // It is the path that is asked for: no group or key is looked for, so that any name will do.
    for parameter in &mut parameters {
        if let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(name))), .. }) = parameter {
            (name.pattern, name.max_length) = (None, None);
        }
    }
    options.parameters = Some(parameters).filter(|parameters| !parameters.is_empty());
    let mut response = Response::new(format!("`Allow: {allowed}`"));
    headers::add(&mut response, &Route { scope: None, ..*route }, StatusCode::NO_CONTENT);
    options.responses.responses.insert("204".to_owned(), response.into());
    options
}

/// `getKey` becomes `headKey`, and `invalidateKeys` `optionsInvalidateKeys`.
fn renamed(verb: &str, id: &str) -> String {
    let noun = ["get", "list"].iter().find_map(|verb| id.strip_prefix(verb)).unwrap_or(id);
    let mut letters = noun.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{verb}{}{}", first.to_ascii_uppercase(), letters.as_str()))
}
