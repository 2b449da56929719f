// Package archtest holds the plan of the house, as a test: which package may import which, and what is kept in one place.
package archtest
