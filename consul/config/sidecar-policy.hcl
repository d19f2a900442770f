# The least that a sidecar needs. Put its service's name in place of {{service}}.

# Register the service, tell its checks, have its leaf, read the intentions that concern it, ask
# `authorize` for the default.
service "{{service}}" {
  policy = "write"
}

# The agent registers the sidecar by this name, along with its service.
service "{{service}}-sidecar-proxy" {
  policy = "write"
}

# Find the services that the app calls, and the nodes they run on. Where names are a secret, list
# the called services and their sidecars instead.
service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
