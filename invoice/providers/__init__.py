"""The two neighbours, Vipps and Twilio, in our words. Knows no table."""
