package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"github.com/mcpgw/mcpgw/telemetry"
)

// seals encrypts what the gateway gives to clients to be given back: so nobody can read it, change it or use it for something else. It is
// never changed after it is made. The first key seals, all of them open, so that keys can be changed one after the other.
type seals struct {
	keys    []sealKey
	cursors []byte // authenticates cursors of lists
}

type sealKey struct {
	id   [sealIDLen]byte // tells keys apart, and nothing about them
	aead cipher.AEAD
	same []byte // makes nonces of what must always be sealed the same
}

const (
	sealIDLen    = 4
	sealNonceLen = 12
)

// newSeals makes the ring of the configured keys. Own is this process's: it seals where none is configured, and goes on opening what it
// sealed when some are.
func newSeals(configured []telemetry.Secret, own []byte) (*seals, error) {
	s := &seals{}
	for _, k := range configured {
		if err := s.add([]byte(k.Reveal())); err != nil {
			return nil, err
		}
	}
	return s, s.add(own)
}

func (s *seals) add(secret []byte) error {
	derived, err := hkdf.Key(sha256.New, secret, nil, "mcpgw seal 1", 32+sealIDLen+32)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	if s.cursors == nil {
		if s.cursors, err = hkdf.Key(sha256.New, secret, nil, "mcpgw cursors 1", 32); err != nil {
			return err
		}
	}
	s.keys = append(s.keys, sealKey{[sealIDLen]byte(derived[32:]), aead, derived[32+sealIDLen:]})
	return nil
}

// seal returns plain as a text that stands in URLs and headers, and opens only with the same purpose.
func (s *seals) seal(plain []byte, purpose string) string {
	k := &s.keys[0]
	out := make([]byte, sealIDLen+sealNonceLen, sealIDLen+sealNonceLen+len(plain)+k.aead.Overhead())
	copy(out, k.id[:])
	_, _ = rand.Read(out[sealIDLen:]) // never fails (crypto/rand)
	return k.finish(out, plain, purpose)
}

// sealSame is seal with a result that is always the same, for ids that clients compare. Its nonce is a keyed hash of what is sealed, so it
// occurs twice only with the same text.
func (s *seals) sealSame(plain []byte, purpose string) string {
	k := &s.keys[0]
	out := make([]byte, sealIDLen+sealNonceLen, sealIDLen+sealNonceLen+len(plain)+k.aead.Overhead())
	copy(out, k.id[:])
	h := hmac.New(sha256.New, k.same)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(plain)
	copy(out[sealIDLen:], h.Sum(nil))
	return k.finish(out, plain, purpose)
}

func (k *sealKey) finish(out, plain []byte, purpose string) string {
	out = k.aead.Seal(out, out[sealIDLen:], plain, []byte(purpose))
	return base64.RawURLEncoding.EncodeToString(out)
}

var errSeal = errors.New("not sealed by this gateway for this purpose")

// open returns what was sealed.
func (s *seals) open(text, purpose string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < sealIDLen+sealNonceLen {
		return nil, errSeal
	}
	for i := range s.keys {
		k := &s.keys[i]
		if k.id != [sealIDLen]byte(b[:sealIDLen]) {
			continue
		}
		if plain, err := k.aead.Open(nil, b[sealIDLen:sealIDLen+sealNonceLen], b[sealIDLen+sealNonceLen:], []byte(purpose)); err == nil {
			return plain, nil
		}
	}
	return nil, errSeal
}
