package downstream

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
	"github.com/mcpgw/mcpgw/telemetry"
)

// System is the part of [Config] that belongs to presets: how a built-in server reaches the system behind it, and what it may do there.
type System struct {
	Access       string           `yaml:"access" default:"read" enum:"read|operate|full" doc:"What the tools of a preset may do: read changes nothing, operate changes what can be taken back, full does everything. Tools beyond it do not exist."`
	Token        telemetry.Secret `yaml:"token" doc:"API token or key of a preset's system."`
	TokenFile    string           `yaml:"token_file" doc:"File that holds the token, instead of token. It is read when the server starts."`
	Username     string           `yaml:"username" doc:"User name at a preset's system."`
	Password     telemetry.Secret `yaml:"password" doc:"Password at a preset's system."`
	PasswordFile string           `yaml:"password_file" doc:"File that holds the password, instead of password. It is read when the server starts."`

	CAFile                string `yaml:"ca_file" doc:"PEM file with the authorities that a preset's system is verified against, instead of the machine's own."`
	TLSPin                string `yaml:"tls_pin" doc:"SHA-256 of the certificate that a preset's system shows, as sha256:HEX. It is checked instead of name and authorities."`
	TLSInsecureSkipVerify bool   `yaml:"tls_insecure_skip_verify" default:"false" doc:"Accept any certificate of a preset's system. Every start warns of it."`
}

// DefaultSystem returns a System with every default filled in.
func DefaultSystem() System { return System{Access: "read"} }

func (c *Config) validateSystem() []error {
	var errs []error
	if c.Preset == "" {
		s := &c.System
		for _, k := range []struct {
			key string
			set bool
		}{
			{"access", s.Access != "" && s.Access != "read"},
			{"token", s.Token != ""},
			{"token_file", s.TokenFile != ""},
			{"username", s.Username != ""},
			{"password", s.Password != ""},
			{"password_file", s.PasswordFile != ""},
			{"ca_file", s.CAFile != ""},
			{"tls_pin", s.TLSPin != ""},
			{"tls_insecure_skip_verify", s.TLSInsecureSkipVerify},
		} {
			if k.set {
				errs = append(errs, fieldErrorf(k.key, "only a server with a preset has it"))
			}
		}
		return append(errs, c.validateOwn()...)
	}
	if _, err := kit.ParseAccess(c.Access); err != nil {
		errs = append(errs, fieldErrorf("access", "%v", err))
	}
	if c.Token != "" && c.TokenFile != "" {
		errs = append(errs, fieldErrorf("token_file", "expected only one of token and token_file"))
	}
	if c.Password != "" && c.PasswordFile != "" {
		errs = append(errs, fieldErrorf("password_file", "expected only one of password and password_file"))
	}
	if c.TLSPin != "" {
		if _, err := kit.ParsePin(c.TLSPin); err != nil {
			errs = append(errs, fieldErrorf("tls_pin", "%v", err))
		}
		if c.CAFile != "" || c.TLSInsecureSkipVerify {
			errs = append(errs, fieldErrorf("tls_pin", "expected only one of tls_pin, ca_file and tls_insecure_skip_verify"))
		}
	}
	if c.CAFile != "" && c.TLSInsecureSkipVerify {
		errs = append(errs, fieldErrorf("ca_file", "expected only one of ca_file and tls_insecure_skip_verify"))
	}
	errs = append(errs, c.validateOwn()...)
	return append(errs, c.validateSystemURL()...)
}

func (c *Config) validateSystemURL() []error {
	switch {
	case !builtin.NeedsURL(c.Preset):
		if c.URL != "" {
			return []error{fieldErrorf("url", "preset %s has no url", c.Preset)}
		}
	case c.URL == lab.URL:
		if !builtin.HasLab(c.Preset) {
			return []error{fieldErrorf("url", "there is no simulator of a %s: write the address of a real one", c.Preset)}
		}
	case c.URL == "":
		hint := "the address of the system, such as https://192.0.2.10"
		if builtin.HasLab(c.Preset) {
			hint += `, or "lab" for the built-in simulator`
		}
		return []error{fieldErrorf("url", "missing: expected %s", hint)}
	default:
		return systemURL(c.URL)
	}
	return nil
}

func systemURL(s string) []error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return []error{fieldErrorf("url", "expected an address such as https://192.0.2.10")} // err would repeat a password
	case u.User != nil:
		return []error{fieldErrorf("url", "must not hold a user name or password: use token, or username and password")}
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ws" && u.Scheme != "wss":
		return []error{fieldErrorf("url", "expected https:// (or http://), found scheme %q", u.Scheme)}
	}
	return nil
}

// builtinConfig is what the built-in server of c is made with. It reads the files that c names.
func (c *Config) builtinConfig() (builtin.Config, error) {
	access, err := kit.ParseAccess(c.Access)
	if err != nil {
		return builtin.Config{}, err
	}
	out := builtin.Config{Config: kit.Config{
		Access: access, URL: c.URL, Token: c.Token, Username: c.Username, Password: c.Password,
		TLS:     kit.TLS{CAFile: c.CAFile, Pin: c.TLSPin, InsecureSkipVerify: c.TLSInsecureSkipVerify},
		Headers: c.Headers, Options: c.Own.of(c.Preset),
		Connection: c.Connection.ofSystem(c.Timeouts.Connect),
	}}
	token, err := fromFile("token_file", c.TokenFile)
	if err == nil && token != "" {
		out.Token = token
	}
	password, err2 := fromFile("password_file", c.PasswordFile)
	if err2 == nil && password != "" {
		out.Password = password
	}
	return out, errors.Join(err, err2)
}

func fromFile(key, path string) (telemetry.Secret, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("%s: %s is empty", key, path)
	}
	return telemetry.Secret(s), nil
}
