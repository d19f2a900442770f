# A Consul server for development, as production would have it: ACLs on, nothing allowed that no
# policy or intention allows, the mesh's CA on. Start it with a directory of its own:
#
#   consul agent -config-file consul/config/server.hcl -data-dir /var/lib/consul
#
# then `consul acl bootstrap`, and give each sidecar a token with sidecar-policy.hcl.

server           = true
bootstrap_expect = 1
datacenter       = "dc1"
bind_addr        = "127.0.0.1"
client_addr      = "127.0.0.1"

connect {
  enabled = true
}

acl {
  enabled                  = true
  default_policy           = "deny"
  enable_token_persistence = true
}

# Not told by any header: it overrides the ACLs' default for calls within the mesh.
default_intention_policy = "deny"

ports {
  http     = 8500
  dns      = 8600
  grpc     = -1
  grpc_tls = -1
}

performance {
  raft_multiplier = 1
}

limits {
  # Each watch of a sidecar holds one connection: raise it with the number of sidecars on a host.
  http_max_conns_per_client = 1000
}
