# For a Consul agent itself (`consul acl set-agent-token agent …`): keeps its node in the catalog.

node_prefix "" {
  policy = "write"
}

service_prefix "" {
  policy = "read"
}
