/* An implementation in C99 of three ops, forward and backward in float32, held to a conformance suite.

       cc -O2 -o check check.c -lm
       ./check SUITE

   It reads SUITE/tensors.safetensors and SUITE/suite.json with nothing but the standard library, runs all cases of
   linear, gelu and layer_norm, and prints the worst error of each value as a multiple of its bound. The exit code is 1
   where one is beyond its bound, 2 where the suite can't be read. Machines are taken to be little-endian. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t rows, columns, count; /* a vector has one row */
    const char *data;
    int is_double;
} Tensor;

static char *suite, *header, *data; /* suite.json; of the tensors: the JSON header and the numbers */
static int64_t data_size;
static int failures, cases;

static void die(const char *what, const char *name) {
    fprintf(stderr, "%s: %s\n", name, what);
    exit(2);
}

static void *make(int64_t size) {
    void *made = calloc((size_t)size + 1, 1);
    if (!made) die("no memory", "check");
    return made;
}

static char *read_file(const char *directory, const char *name, int64_t *size) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) die("too long a name", name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die("can't be read", path);
    *size = ftell(file);
    rewind(file);
    char *content = make(*size); /* ends with a 0 */
    if (fread(content, 1, (size_t)*size, file) != (size_t)*size) die("can't be read", path);
    fclose(file);
    return content;
}

static void read_suite(const char *directory) {
    int64_t size;
    uint64_t length;
    suite = read_file(directory, "suite.json", &size);
    char *content = read_file(directory, "tensors.safetensors", &size);
    if (size < 8) die("is cut short", "tensors.safetensors");
    memcpy(&length, content, 8);
    if (length > (uint64_t)size - 8) die("is cut short", "tensors.safetensors");
    data_size = size - 8 - (int64_t)length;
    data = content + 8 + length;
    header = make((int64_t)length);
    memcpy(header, content + 8, length);
}

/* The tensor CASE/role/name. The header has "NAME":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, and no name has
   a character that JSON writes in another way. */
static Tensor tensor(const char *of, const char *role, const char *name) {
    char key[512];
    int64_t sizes[8] = {1, 1}, count = 1, n = 0, start, stop;
    snprintf(key, sizeof key, "\"%s/%s/%s\":", of, role, name);
    const char *entry = strstr(header, key), *at;
    if (!entry) die("there is no such tensor", key);
    entry += strlen(key);
    if (!(at = strstr(entry, "\"shape\":["))) die("has no shape", key);
    for (at += 9; *at != ']' && n < 8; at += *at == ',') {
        char *after;
        sizes[n] = strtoll(at, &after, 10);
        if (after == at || sizes[n] < 0 || (sizes[n] && count > data_size / sizes[n])) die("has no sound shape", key);
        count *= sizes[n++];
        at = after;
    }
    if (!(at = strstr(entry, "\"data_offsets\":["))) die("has no offsets", key);
    char *comma;
    start = strtoll(at + 16, &comma, 10);
    stop = strtoll(comma + 1, NULL, 10);
    int is_double = !strncmp(entry, "{\"dtype\":\"F64\",", 15);
    if (!is_double && strncmp(entry, "{\"dtype\":\"F32\",", 15)) die("is neither float32 nor float64", key);
    if (start < 0 || stop > data_size || stop - start != count * (is_double ? 8 : 4)) die("is cut short", key);
    Tensor found = {n == 2 ? sizes[0] : 1, n == 2 ? sizes[1] : count, count, data + start, is_double};
    return found;
}

/* An input of so many rows and columns; below 0, of any number, which is written there. */
static float *floats(const char *of, const char *name, int64_t *rows, int64_t *columns) {
    Tensor t = tensor(of, "inputs", name);
    float *values = make(4 * t.count);
    if (*rows < 0) *rows = t.rows;
    if (*columns < 0) *columns = t.columns;
    if (t.is_double || t.rows != *rows || t.columns != *columns) die("is no float32 of the shape of the others", name);
    memcpy(values, t.data, (size_t)(4 * t.count));
    return values;
}

/* A number among a case's settings, which are on the case's line of suite.json. */
static double setting(const char *of, const char *name) {
    char key[512];
    snprintf(key, sizeof key, "{\"name\": \"%s\",", of);
    const char *line = strstr(suite, key);
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *found = line ? strstr(line, key) : NULL;
    if (!found || found > line + strcspn(line, "\n")) die("has no such setting", of);
    return strtod(found + strlen(key), NULL);
}

/* Holds so many values to those expected, number by number, and gives their memory back. */
static void check(const char *of, const char *name, float *values, int64_t count) {
    Tensor expected = tensor(of, "expected", name), bound = tensor(of, "bounds", name);
    double worst = 0.0;
    if (expected.count != count || bound.count != count) die("is of another shape than its inputs", name);
    if (!expected.is_double || !bound.is_double) die("is no float64", name);
    for (int64_t i = 0; i < expected.count; i++) {
        double right, most;
        memcpy(&right, expected.data + 8 * i, 8);
        memcpy(&most, bound.data + 8 * i, 8);
        double error = fabs((double)values[i] - right), ratio = error == 0.0 ? 0.0 : error / most;
        if (!(ratio <= worst)) worst = isnan(ratio) ? INFINITY : ratio;
    }
    if (worst > 1.0) failures++;
    printf("%-32s %-10s %12.3g %s\n", of, name, worst, worst > 1.0 ? "FAILED" : "");
    free(values);
}

/* y (n, m) = a (n, k) b (k, m), where a's element (i, l) is a[i * a_row + l * a_column], and so for b. */
static float *product(const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row, int64_t b_column,
                      int64_t n, int64_t k, int64_t m) {
    float *y = make(4 * n * m);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t l = 0; l < k; l++) y[i * m + j] += a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
    return y;
}

static void linear(const char *of) { /* y (N, O) = x (N, I) kernel (I, O) + bias (O) */
    int64_t N = -1, I = -1, O = -1, one = 1;
    float *x = floats(of, "x", &N, &I), *kernel = floats(of, "kernel", &I, &O), *bias = floats(of, "bias", &one, &O);
    float *dy = floats(of, "dy", &N, &O);
    float *y = product(x, I, 1, kernel, O, 1, N, I, O), *dbias = make(4 * O);
    for (int64_t i = 0; i < N * O; i++) {
        y[i] += bias[i % O];
        dbias[i % O] += dy[i];
    }
    check(of, "output", y, N * O);
    check(of, "d.x", product(dy, O, 1, kernel, 1, O, N, O, I), N * I);
    check(of, "d.kernel", product(x, 1, I, dy, O, 1, I, N, O), I * O);
    check(of, "d.bias", dbias, O);
    free(x), free(kernel), free(bias), free(dy);
}

static void gelu(const char *of) { /* y = x cdf(x); cdf by erfc, which is not lost far below 0 */
    int64_t N = -1, C = -1;
    float *x = floats(of, "x", &N, &C), *dy = floats(of, "dy", &N, &C);
    float *y = make(4 * N * C), *dx = make(4 * N * C);
    for (int64_t i = 0; i < N * C; i++) {
        float cdf = 0.5f * erfcf(-x[i] * 0.70710678f), density = 0.39894228f * expf(-0.5f * x[i] * x[i]);
        y[i] = x[i] * cdf;
        dx[i] = dy[i] * (cdf + x[i] * density);
    }
    check(of, "output", y, N * C);
    check(of, "d.x", dx, N * C);
    free(x), free(dy);
}

static void layer_norm(const char *of) { /* y (N, C) = gamma x_hat + beta */
    int64_t N = -1, C = -1, one = 1;
    float *x = floats(of, "x", &N, &C), *gamma = floats(of, "gamma", &one, &C), *beta = floats(of, "beta", &one, &C);
    float *dy = floats(of, "dy", &N, &C), epsilon = (float)setting(of, "epsilon");
    float *y = make(4 * N * C), *dx = make(4 * N * C), *dgamma = make(4 * C), *dbeta = make(4 * C);
    for (int64_t n = 0; n < N; n++) {
        float mean = 0.0f, variance = 0.0f, of_slopes = 0.0f, along = 0.0f;
        for (int64_t c = n * C; c < (n + 1) * C; c++) mean += x[c];
        mean /= (float)C;
        for (int64_t c = n * C; c < (n + 1) * C; c++) variance += (x[c] - mean) * (x[c] - mean);
        variance /= (float)C;
        float inverse = 1.0f / sqrtf(variance + epsilon);
        for (int64_t c = 0; c < C; c++) {
            float x_hat = (x[n * C + c] - mean) * inverse, slope = dy[n * C + c] * gamma[c];
            y[n * C + c] = gamma[c] * x_hat + beta[c];
            dgamma[c] += dy[n * C + c] * x_hat;
            dbeta[c] += dy[n * C + c];
            of_slopes += slope;
            along += slope * x_hat;
        }
        for (int64_t c = 0; c < C; c++) {
            float x_hat = (x[n * C + c] - mean) * inverse, slope = dy[n * C + c] * gamma[c];
            dx[n * C + c] = inverse * (slope - of_slopes / (float)C - x_hat * (along / (float)C));
        }
    }
    check(of, "output", y, N * C);
    check(of, "d.x", dx, N * C);
    check(of, "d.gamma", dgamma, C);
    check(of, "d.beta", dbeta, C);
    free(x), free(gamma), free(beta), free(dy);
}

/* Runs every case op/NAME/...: the header has the tensor dy of each. */
static void run(const char *op, void (*implementation)(const char *)) {
    char begin[64], name[256];
    int length = snprintf(begin, sizeof begin, "\"op/%s/", op), before = cases;
    for (const char *at = header; (at = strstr(at, begin)); at += length) {
        size_t end = strcspn(at + 1, "\"");
        if (end < 10 || end > sizeof name || strncmp(at + 1 + end - 10, "/inputs/dy", 10)) continue;
        memcpy(name, at + 1, end - 10);
        name[end - 10] = 0;
        implementation(name);
        cases++;
    }
    if (cases == before) die("the suite has no case of it", op);
}

int main(int argc, char **argv) {
    if (argc != 2) die("give the directory of a suite", "check");
    read_suite(argv[1]);
    printf("%-32s %-10s %12s\n", "case", "value", "error/bound");
    run("linear", linear);
    run("gelu", gelu);
    run("layer_norm", layer_norm);
    printf("%d cases, %d values beyond their bounds\n", cases, failures);
    return failures ? 1 : 0;
}
