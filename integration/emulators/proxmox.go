package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// fakepve is run as a program of its own; nothing of it (AGPL) becomes part of ours.
const fakepve = "fakepve[crypto]==0.5.0"

// fakepveStart starts it with an API token, for which its command line has no option.
const fakepveStart = `
import asyncio, sys
from fakepve.__main__ import FakePve
from fakepve.certs import make_cert
async def main():
    pve = FakePve(user="root@pam", password="unused-here", host="127.0.0.1", port=int(sys.argv[1]))
    pve.time_scale = 0.05
    pve.apitokens["root@pam!mcpgw"] = sys.argv[2]
    pve.add_vm(100, "web", node="pve1", status="running", config={"cores": 2, "memory": 2048, "scsi0": "local-lvm:vm-100-disk-0,size=8G"})
    pve.add_vm(101, "db", node="pve1", status="stopped", config={"cores": 2, "memory": 2048})
    pve.add_vm(102, "locked", node="pve1", status="stopped", lock="backup")
    pve.add_ct(200, "dns", node="pve1", status="running")
    cert, key, _ = make_cert(sys.argv[3], hosts=("127.0.0.1",))
    await pve.start(cert, key)
    await asyncio.Event().wait()
asyncio.run(main())
`

func init() {
	emulators = append(emulators, emulator{"proxmox", fakepve + " (PyPI)", runProxmox})
}

func runProxmox(ctx context.Context, s *stage) error {
	python, err := venv(ctx, "fakepve-0.5.0", fakepve)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	const secret = "0badcafe-0000-4000-8000-123456789abc"
	script := filepath.Join(s.dir, "fakepve_start.py")
	if err := os.WriteFile(script, []byte(fakepveStart), 0o600); err != nil {
		return err
	}
	fake, err := harness.StartHTTP(ctx, harness.Spec{Name: "fakepve", Path: python, Args: []string{script, port, secret, s.dir}, Dir: s.dir}, addr)
	if err != nil {
		return err
	}
	defer fake.Kill()
	common := fmt.Sprintf(`preset: proxmox, url: "https://%s"`, addr)
	g, err := s.gateway(ctx, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  pve: { %[1]s, token: "root@pam!mcpgw=%[2]s", access: full, ca_file: %[3]q }
  wrong: { %[1]s, token: "root@pam!mcpgw=11111111-0000-4000-8000-123456789abc", ca_file: %[3]q }
  strict: { %[1]s, token: "root@pam!mcpgw=%[2]s" }
`, common, secret, filepath.Join(s.dir, "fakepve.crt")))
	if err != nil {
		return err
	}
	defer g.close()
	upid := regexp.MustCompile(`UPID:[^"\s]+:`)
	for _, c := range []struct{ tool, args, want string }{
		{"pve__cluster", `{}`, `"node":"pve1"`},
		{"pve__guests", `{}`, `"name":"dns"`},
		{"pve__guest", `{"vmid":100}`, `"cores"`},
		{"pve__guest", `{"vmid":200}`, `"kind":"container"`},
		{"pve__storage", `{}`, `"storage":"local`},
		{"pve__backups", `{}`, `"total":0`},
		{"pve__tasks", `{}`, `"total":`},
		{"pve__metrics", `{"vmid":100}`, `"total":`},
		{"pve__metrics", `{"node":"pve1"}`, `"total":`},
		{"pve__start_guest", `{"vmid":101}`, `"state":"ok"`},
		{"pve__guests", `{"search":"db"}`, `"status":"running"`},
		{"pve__reboot_guest", `{"vmid":101}`, `"state":"ok"`},
		{"pve__shutdown_guest", `{"vmid":101}`, `"state":"ok"`},
		{"pve__start_guest", `{"vmid":102}`, "locked (backup)"},
		{"pve__stop_guest", `{"vmid":200}`, `"state":"ok"`},
		{"pve__create_snapshot", `{"vmid":100,"name":"before"}`, `"state":"ok"`},
		{"pve__snapshots", `{"vmid":100}`, `"name":"before"`},
		{"pve__rollback_snapshot", `{"vmid":100,"name":"before"}`, `"state":"ok"`},
		{"pve__delete_snapshot", `{"vmid":100,"name":"before"}`, `"state":"ok"`},
		{"pve__backup_guest", `{"vmid":101,"storage":"local"}`, `"state":"ok"`},
		{"pve__clone_guest", `{"vmid":101,"name":"copy","new_vmid":300}`, `"state":"ok"`},
		{"pve__delete_guest", `{"vmid":300,"name":"copy"}`, `"state":"ok"`},
		{"pve__clone_guest", `{"vmid":101,"new_vmid":100}`, "refuses"},
		{"wrong__cluster", `{}`, "does not accept the API token"},
		{"strict__cluster", `{}`, "ca_file or tls_pin"},
		{"pve__cluster", `{}`, `"node":"pve1"`},
	} {
		s.expect(c.tool+" "+c.args, g.call(ctx, c.tool, c.args), c.want)
	}
	id := upid.FindString(g.call(ctx, "pve__start_guest", `{"vmid":101}`))
	s.expect("pve__task_log", g.call(ctx, "pve__task_log", fmt.Sprintf(`{"upid":%q}`, id)), `"state":"ok"`)
	s.differs("vzdump leaves no backup on the storage", "guests can be backed up to storages and migrated to nodes that do not exist",
		"the list of tasks begins with one that cannot be asked for")
	return nil
}
