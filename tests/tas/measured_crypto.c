/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cryptography that is measured. The command is what (bits 24 and up), how much (bits 16 to 23: 0,
 * or n for 1 << (n - 1) bytes) and how often (bits 0 to 15). Keys are made when a session is opened.
 */

#define TA_MAIN
#include "ta.h"

TA_HEADER(16384, 0, TA_UUID(NUMBER));

enum { SHA256 = 1, CBC, CTR, GCM, RSA, ECDSA, GENERATE_ECC, GENERATE_RSA };

#define TEE_ALG_SHA256 0x50000004
#define TEE_ALG_AES_CBC_NOPAD 0x10000110
#define TEE_ALG_AES_CTR 0x10000210
#define TEE_ALG_AES_GCM 0x40000810
#define TEE_ALG_RSASSA_PKCS1_V1_5_SHA256 0x70004830
#define TEE_ALG_ECDSA_SHA256 0x70003042
#define TEE_TYPE_AES 0xA0000010
#define TEE_TYPE_RSA_KEYPAIR 0xA1000030
#define TEE_TYPE_ECDSA_KEYPAIR 0xA1000041
#define TEE_ATTR_SECRET_VALUE 0xC0000000
#define TEE_ATTR_ECC_CURVE 0xF0000441
#define TEE_ECC_CURVE_NIST_P256 3
enum { ENCRYPT = 0, SIGN = 2, DIGEST = 5 };

static unsigned char buffer[1 << 20];
static unsigned char hash[32], iv[16], tag[16], signature[512];
static uint32_t rsa, ecc;
static uint32_t states[GENERATE_ECC + 1];

#define TRY(call)                                                                                 \
	do {                                                                                      \
		TEE_Result res_ = (call);                                                         \
		if (res_)                                                                         \
			return res_;                                                              \
	} while (0)

static struct attribute curve = { TEE_ECC_CURVE_NIST_P256, 0, TEE_ATTR_ECC_CURVE };

/* A key belongs to one operation. */
static TEE_Result with_aes(unsigned long algorithm, uint32_t *state)
{
	static unsigned char key[32];
	struct attribute secret = { (uintptr_t)key, sizeof(key), TEE_ATTR_SECRET_VALUE };
	uint32_t aes;

	TRY(utee_cryp_obj_alloc(TEE_TYPE_AES, 256, &aes));
	TRY(utee_cryp_obj_populate(aes, &secret, 1));
	return utee_cryp_state_alloc(algorithm, ENCRYPT, aes, 0, state);
}

static TEE_Result prepare(void)
{
	TRY(utee_cryp_obj_alloc(TEE_TYPE_RSA_KEYPAIR, 2048, &rsa));
	TRY(utee_cryp_obj_generate_key(rsa, 2048, NULL, 0));
	TRY(utee_cryp_obj_alloc(TEE_TYPE_ECDSA_KEYPAIR, 256, &ecc));
	TRY(utee_cryp_obj_generate_key(ecc, 256, &curve, 1));
	TRY(utee_cryp_state_alloc(TEE_ALG_SHA256, DIGEST, 0, 0, &states[SHA256]));
	TRY(with_aes(TEE_ALG_AES_CBC_NOPAD, &states[CBC]));
	TRY(with_aes(TEE_ALG_AES_CTR, &states[CTR]));
	TRY(with_aes(TEE_ALG_AES_GCM, &states[GCM]));
	TRY(utee_cryp_state_alloc(TEE_ALG_RSASSA_PKCS1_V1_5_SHA256, SIGN, rsa, 0, &states[RSA]));
	TRY(utee_cryp_state_alloc(TEE_ALG_ECDSA_SHA256, SIGN, ecc, 0, &states[ECDSA]));
	return TEE_SUCCESS;
}

static TEE_Result once(unsigned int what, size_t size)
{
	uint64_t out = size, other = sizeof(hash);
	uint32_t key;

	switch (what) {
	case SHA256:
		TRY(utee_hash_init(states[SHA256], NULL, 0));
		return utee_hash_final(states[SHA256], buffer, size, hash, &other);
	case CBC:
	case CTR:
		TRY(utee_cipher_init(states[what], iv, sizeof(iv)));
		return utee_cipher_final(states[what], buffer, size, buffer, &out);
	case GCM:
		other = sizeof(tag);
		TRY(utee_authenc_init(states[GCM], iv, 12, sizeof(tag), 0, size));
		return utee_authenc_enc_final(states[GCM], buffer, size, buffer, &out, tag, &other);
	case RSA:
	case ECDSA:
		out = sizeof(signature);
		return utee_asymm_operate(states[what], NULL, 0, hash, sizeof(hash), signature, &out);
	case GENERATE_ECC:
		TRY(utee_cryp_obj_alloc(TEE_TYPE_ECDSA_KEYPAIR, 256, &key));
		TRY(utee_cryp_obj_generate_key(key, 256, &curve, 1));
		return utee_cryp_obj_close(key);
	case GENERATE_RSA:
		TRY(utee_cryp_obj_alloc(TEE_TYPE_RSA_KEYPAIR, 2048, &key));
		TRY(utee_cryp_obj_generate_key(key, 2048, NULL, 0));
		return utee_cryp_obj_close(key);
	default:
		return TEE_ERROR_NOT_SUPPORTED;
	}
}

TEE_Result ta_main(unsigned long func, unsigned long session, struct params *params,
		   unsigned long cmd)
{
	(void)session;
	(void)params;
	if (func == OPEN_SESSION)
		return prepare();
	if (func != INVOKE_COMMAND)
		return TEE_SUCCESS;
	unsigned int power = cmd >> 16 & 0xff;
	size_t size = power ? 1ul << (power - 1) : 0;

	for (unsigned int count = cmd & 0xffff; count--;)
		TRY(once(cmd >> 24, size));
	return TEE_SUCCESS;
}
